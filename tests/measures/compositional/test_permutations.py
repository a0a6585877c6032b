from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from stdistill._measures.compositional.permutations import make_orders, permutation_p


def none(n: int) -> np.ndarray:
    return np.empty((n, 0))


@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 4), (2, 5)])
def test_all_orders_of_two_groups(n: int, m: int) -> None:
    group = np.repeat([0.0, 1.0], [n, m])
    orders = make_orders(group, np.zeros(n + m, dtype=int), has_covariates=False, n_permutations=9999, seed=0)
    dealt = {tuple(group[order]) for order in orders.rows}
    assert len(dealt) == len(orders.rows) == orders.n_distinct == math.comb(n + m, n)
    assert (np.sort(orders.rows, axis=1) == np.arange(n + m)).all()
    assert orders.smallest_p == (2 if n == m else 1) / math.comb(n + m, n)


def test_pairs_change_places_among_themselves() -> None:
    group, pairs = np.tile([0.0, 1.0], 5), np.repeat([7, 3, 5, 1, 2], 2)
    orders = make_orders(group, pairs, has_covariates=False, n_permutations=9999, seed=0)
    assert orders.n_distinct == len({tuple(group[order]) for order in orders.rows}) == 32
    assert (pairs[orders.rows] == pairs).all()
    assert orders.smallest_p == 2 / 32


def test_blocks_of_unequal_sizes_and_equal_numbers() -> None:
    group, blocks = np.array([1.0, 1.0, 2.0, 5.0, 6.0, 4.0]), np.array([0, 1, 0, 0, 1, 2])
    orders = make_orders(group, blocks, has_covariates=False, n_permutations=9999, seed=0)
    assert orders.n_distinct == 6 * 2
    assert {tuple(group[order]) for order in orders.rows} == {
        (a, d, b, c, e, 4.0)
        for a, b, c in itertools.permutations([1.0, 2.0, 5.0])
        for d, e in itertools.permutations([1.0, 6.0])
    }


def test_with_covariates_no_two_rows_are_the_same() -> None:
    orders = make_orders(
        np.repeat([0.0, 1.0], 3), np.zeros(6, dtype=int), has_covariates=True, n_permutations=999, seed=0
    )
    assert len(np.unique(orders.rows, axis=0)) == orders.n_distinct == 720
    assert orders.smallest_p == 1 / 720


@pytest.mark.parametrize("n_blocks", [1, 4])
def test_drawn_orders(n_blocks: int) -> None:
    group, blocks = np.arange(24.0), np.arange(24) % n_blocks
    orders = make_orders(group, blocks, has_covariates=False, n_permutations=500, seed=3)
    assert orders.rows.shape == (501, 24)
    assert (orders.rows[0] == np.arange(24)).all()
    assert (np.sort(orders.rows, axis=1) == np.arange(24)).all()
    assert (blocks[orders.rows] == blocks).all()
    assert orders.smallest_p == 1 / 501
    again = make_orders(group, blocks, has_covariates=False, n_permutations=500, seed=3)
    np.testing.assert_array_equal(orders.rows, again.rows)


def test_same_p_as_scipy() -> None:
    values = np.random.default_rng(1).normal(size=(9, 3))
    group, blocks = np.repeat([0.0, 1.0], [4, 5]), np.zeros(9, dtype=int)
    orders = make_orders(group, blocks, has_covariates=False, n_permutations=9999, seed=0)
    found = permutation_p(values, group, none(9), blocks, orders.rows)
    for column, p in zip(values.T, found, strict=True):
        theirs = stats.permutation_test(
            (column[:4], column[4:]),
            lambda a, b: abs(a.mean() - b.mean()),
            n_resamples=np.inf,
            alternative="greater",
            vectorized=False,
        )
        assert p == pytest.approx(theirs.pvalue)


def test_same_p_as_scipy_of_pairs() -> None:
    before, after = np.random.default_rng(2).normal(0.4, 1, size=(2, 8))
    values, group, pairs = np.r_[before, after][:, None], np.repeat([0.0, 1.0], 8), np.tile(np.arange(8), 2)
    orders = make_orders(group, pairs, has_covariates=False, n_permutations=9999, seed=0)
    (found,) = permutation_p(values, group, none(16), pairs, orders.rows)
    theirs = stats.permutation_test(
        (after - before,),
        lambda each: abs(each.mean()),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="greater",
        vectorized=False,
    )
    assert found == pytest.approx(theirs.pvalue)


def test_freedman_and_lane_by_regressions() -> None:
    """Beside a plain loop: residuals are permuted, added to what the covariate explains, and regressed again."""
    rng = np.random.default_rng(4)
    n = 6
    age, group = rng.normal(size=n), np.repeat([0.0, 1.0], 3)
    values = (0.7 * age + rng.normal(size=n))[:, None]

    def t(y: np.ndarray) -> float:
        x = np.c_[np.ones(n), group, age]
        coefficients, rest, *_ = np.linalg.lstsq(x, y, rcond=None)
        return abs(coefficients[1]) / np.sqrt(rest[0] * np.linalg.inv(x.T @ x)[1, 1])

    reduced = np.c_[np.ones(n), age]
    fitted = reduced @ np.linalg.lstsq(reduced, values[:, 0], rcond=None)[0]
    left = values[:, 0] - fitted
    observed = t(values[:, 0])
    reached = [t(fitted + left[list(order)]) >= observed * (1 - 1e-9) for order in itertools.permutations(range(n))]
    blocks = np.zeros(n, dtype=int)
    orders = make_orders(group, blocks, has_covariates=True, n_permutations=9999, seed=0)
    (found,) = permutation_p(values, group, age[:, None], blocks, orders.rows)
    assert found == pytest.approx(np.mean(reached))


def test_what_is_the_same_everywhere_says_nothing() -> None:
    group, blocks = np.repeat([0.0, 1.0], 4), np.zeros(8, dtype=int)
    orders = make_orders(group, blocks, has_covariates=False, n_permutations=9999, seed=0)
    assert permutation_p(np.full((8, 1), 0.1), group, none(8), blocks, orders.rows) == 1
