from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from stdistill._graph import rbf
from stdistill._graph.rbf import rbf_radius, rbf_sums


def dense(points: np.ndarray, groups: np.ndarray, length: float, cutoff: float, own: bool) -> np.ndarray:
    weights = np.exp(-0.5 * cdist(points, points, "sqeuclidean") / length**2)
    weights[(weights < cutoff) | (groups[:, None] != groups)] = 0
    if not own:
        np.fill_diagonal(weights, 0)
    return weights


def check_same_as_dense(
    points: np.ndarray, groups: np.ndarray, values: np.ndarray, length: float, cutoff: float, own: bool
) -> None:
    weights = dense(points, groups, length, cutoff, own)
    found = rbf_sums(points, groups, values, length=length, cutoff=cutoff, own=own)
    np.testing.assert_allclose(found.lagged, weights @ values, atol=1e-9)
    np.testing.assert_allclose(found.totals, weights.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(found.squares, (weights**2).sum(axis=1), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 80),
    n_groups=st.integers(1, 3),
    kind=st.sampled_from(["uniform", "few places", "line", "far away"]),
    length=st.sampled_from([0.3, 1.0, 2.5]),
    cutoff=st.sampled_from([0.01, 0.2, 0.9]),
    own=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_same_as_dense(n: int, n_groups: int, kind: str, length: float, cutoff: float, own: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-5, 5, (n, 2))
    if kind == "few places":  # others at the same place count fully, whether a point counts itself or not
        points = rng.integers(0, 3, (n, 2)) * 1.37
    elif kind == "line":
        points[:, 1] = 2.0
    elif kind == "far away":
        points += 1e5
    check_same_as_dense(points, rng.integers(0, n_groups, n), rng.normal(size=(n, 3)), length, cutoff, own)


def test_many_bins_in_many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbf, "BINS_PER_TASK", 7)
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (1500, 2))
    check_same_as_dense(points, rng.integers(0, 2, 1500), rng.normal(size=(1500, 5)), 2.0, 0.2, True)


def test_the_order_of_the_points_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    points, values = rng.uniform(0, 50, (500, 2)), rng.normal(size=(500, 2))
    groups = rng.integers(0, 2, 500)
    order = rng.permutation(500)
    one = rbf_sums(points, groups, values, length=3, cutoff=0.2, own=True)
    other = rbf_sums(points[order], groups[order], values[order], length=3, cutoff=0.2, own=True)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a[order], b)


def test_missing_columns_stay_apart() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 3))
    points, groups = rng.uniform(0, 10, (100, 2)), np.zeros(100, dtype=int)
    expected = rbf_sums(points, groups, values, length=1, cutoff=0.2, own=True).lagged
    values[:, 1] = np.nan
    lagged = rbf_sums(points, groups, values, length=1, cutoff=0.2, own=True).lagged
    np.testing.assert_array_equal(lagged[:, [0, 2]], expected[:, [0, 2]])
    assert np.isnan(lagged[:, 1]).all()


def test_same_bits_twice() -> None:
    rng = np.random.default_rng(0)
    points, values = rng.uniform(0, 300, (20_000, 2)), rng.normal(size=(20_000, 4))
    runs = [rbf_sums(points, np.zeros(20_000, dtype=int), values, length=3, cutoff=0.2, own=True) for _ in range(2)]
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_radius() -> None:
    assert rbf_radius(50, 0.2) == pytest.approx(50 * 1.7941, rel=1e-4)
    assert np.exp(-0.5 * (rbf_radius(3, 0.7) / 3) ** 2) == pytest.approx(0.7)


def test_a_length_in_another_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbf, "MOST_NEIGHBORS", 50)
    points = np.random.default_rng(0).uniform(0, 10, (500, 2))
    with pytest.raises(ValueError, match=r"length 50 reach 89.7.*about 1.7e\+02 others; at most 50.*in the unit of"):
        rbf_sums(points, np.zeros(500, dtype=int), np.ones((500, 1)), length=50, cutoff=0.2, own=True)
