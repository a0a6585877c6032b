from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import norm

from stdistill._measures.abundances.moran import bivariate_moran, null_sd, significance, standardise

LINE = np.array([[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]])


def random_weights(n: int, seed: int, own: bool = True) -> np.ndarray:
    places = np.random.default_rng(seed).uniform(0, 3, (n, 2))
    weights = np.exp(-0.5 * cdist(places, places, "sqeuclidean"))
    weights[weights < 0.2] = 0
    if not own:
        np.fill_diagonal(weights, 0)
    return weights


def sd_of(weights: np.ndarray) -> float:
    return null_sd(weights.sum(axis=1), (weights**2).sum(axis=1))


def moran(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    z = standardise(values)
    return bivariate_moran(z, weights @ z, weights.sum(axis=1))


def test_by_hand() -> None:
    values = np.array([[0, 1], [1, 0], [2, 0]], dtype=np.float32)
    z = standardise(values)
    np.testing.assert_allclose(z[:, 0], np.array([-1, 0, 1]) * np.sqrt(3 / 2))
    np.testing.assert_allclose(z[:, 1], np.array([2, -1, -1]) / np.sqrt(2))
    r = moran(values, LINE)
    np.testing.assert_allclose(r, [[0.6, -0.3 * np.sqrt(3)], [-0.3 * np.sqrt(3), 0.5]])
    # Sum of weights 5, of their squares 4, of the squares of the rows' sums 8.5; scaled by 3/5.
    sd = sd_of(LINE)
    assert sd**2 == pytest.approx((0.36 * (4 - 2 / 3 * 8.5) + 1) / 4)
    z_score, p, q = significance(r, sd)
    assert z_score[0, 1] == pytest.approx(-0.3 * np.sqrt(3) / np.sqrt(0.1))
    assert p[0, 1] == p[1, 0] == q[0, 1] == pytest.approx(2 * norm.cdf(z_score[0, 1]))
    assert np.isnan(np.diag([z_score, p, q][0])).all()


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 5), own=st.booleans(), seed=st.integers(0, 1000))
def test_variance_is_that_of_all_shuffles(n: int, own: bool, seed: int) -> None:
    weights = random_weights(n, seed, own)
    if not weights.any():
        return
    x, y = np.random.default_rng(seed).random((2, n))
    orders = [list(order) for order in permutations(range(n))]
    found = [moran(np.stack([x[one], y[other]], axis=1), weights)[0, 1] for one in orders for other in orders]
    assert np.mean(found) == pytest.approx(0, abs=1e-9)
    assert np.std(found) == pytest.approx(sd_of(weights), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 60), t=st.integers(1, 6), own=st.booleans(), seed=st.integers(0, 1000))
def test_definition(n: int, t: int, own: bool, seed: int) -> None:
    """R of the paper, pair by pair, with weights that sum to n."""
    weights = random_weights(n, seed, own)
    if not weights.any():
        return
    values = np.random.default_rng(seed).gamma(1, 1, (n, t))
    scaled = n * weights / weights.sum()
    r = moran(values, weights)
    np.testing.assert_array_equal(r, r.T)
    centred = values - values.mean(axis=0)
    for i in range(t):
        for j in range(t):
            x, y = centred[:, i], centred[:, j]
            assert r[i, j] == pytest.approx(x @ scaled @ y / np.sqrt((x**2).sum() * (y**2).sum()), abs=1e-9)
    scale_free = null_sd(weights.sum(axis=1), (weights**2).sum(axis=1))
    assert scale_free == pytest.approx(null_sd(scaled.sum(axis=1), (scaled**2).sum(axis=1)))


def test_without_neighbours_it_is_the_correlation() -> None:
    values = np.random.default_rng(0).random((50, 4))
    np.testing.assert_allclose(moran(values, np.eye(50)), np.corrcoef(values.T))
    assert sd_of(np.eye(50)) == pytest.approx(1 / np.sqrt(49))


def test_equal_weights_between_all_tell_nothing() -> None:
    values = np.random.default_rng(0).random((20, 3))
    r, sd = moran(values, np.ones((20, 20))), sd_of(np.ones((20, 20)))
    np.testing.assert_allclose(r, 0, atol=1e-12)
    z, p, q = significance(r, 0.0)
    assert sd == pytest.approx(0, abs=1e-8)
    assert np.isnan([z, p, q]).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 12345.6])
def test_constant_types_have_no_r(value: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((100, 3)).astype(np.float32)
    values[:, 1] = np.float32(value) * (1 + 1e-7 * rng.standard_normal(100).astype(np.float32))  # rounding is no signal
    z, p, q = significance(moran(values, random_weights(100, 0)), 0.1)
    for each in (z, p, q):
        assert np.isnan(each[1]).all()
        assert np.isnan(each[:, 1]).all()
        assert np.isfinite(each[0, 2])


def test_one_cell_in_a_million_is_not_constant() -> None:
    values = np.zeros((1_000_000, 1), dtype=np.float32)
    values[3] = 1
    z = standardise(values)
    assert np.isfinite(z).all()
    assert (z**2).mean() == pytest.approx(1)


def test_false_discovery_rate_is_over_the_distinct_pairs() -> None:
    r = np.array([[9, 3, 2, 0], [3, 9, 1, 0], [2, 1, 9, 0], [0, 0, 0, 9]], dtype=float)
    r[3] = r[:, 3] = np.nan
    _, p, q = significance(r, 1.0)
    one, two, three = p[0, 1], p[0, 2], p[1, 2]
    assert q[0, 1] == pytest.approx(min(3 * one, 1.5 * two, three))
    assert q[0, 2] == pytest.approx(min(1.5 * two, three))
    assert q[1, 2] == pytest.approx(three)
    np.testing.assert_array_equal(q, q.T)
    assert np.isnan(q[3]).all()


def test_one_type() -> None:
    for each in significance(np.array([[0.5]]), 0.1):
        assert each.shape == (1, 1)
        assert np.isnan(each).all()
