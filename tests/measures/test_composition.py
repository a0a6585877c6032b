"""Divergence of compositions, by hand and beside SciPy; pairings beside all there are."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from stdistill._measures.composition import (
    compositions_of,
    jensen_shannon,
    largest_divergence,
    pair_niches,
    random_pairings,
    shares,
)
from stdistill._measures.labels import Labels


@pytest.mark.parametrize("base", [2.0, np.e, 10.0])
def test_divergence_is_the_square_of_scipys_distance(base: float) -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet([0.3] * 6, 4), rng.dirichlet([0.3] * 6, 5)
    p[0, :3] = 0
    p[0] /= p[0].sum()
    found = jensen_shannon(p, q, base)
    expected = [[jensenshannon(one, other, base) ** 2 for other in q] for one in p]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_divergence_by_hand() -> None:
    """0 of the same, 1 bit of what has nothing in common, and of a half in common 1.5 − 0.75 · log₂ 3 ≈ 0.311."""
    p = np.array([[1.0, 0.0], [0.5, 0.5]])
    found = jensen_shannon(p, np.array([[1.0, 0.0], [0.0, 1.0]]), 2.0)
    half = 1.5 - 0.75 * np.log2(3)
    np.testing.assert_allclose(found, [[0, 1], [half, half]], atol=1e-12)
    assert largest_divergence(2.0) == 1.0
    assert largest_divergence(np.e) == pytest.approx(np.log(2))


def test_compositions_of_niches_with_cells() -> None:
    """Cells without a niche or a type, and those that are not asked for, have no part; nor have empty niches."""
    niches = Labels(np.array([0, 0, 0, 2, 2, -1, 0]), ["a", "b", "c"])
    types = Labels(np.array([0, 0, 1, 1, -1, 0, 1]), ["B", "T"])
    cells = np.array([True] * 6 + [False])
    names, sizes, composition = compositions_of(niches, types, cells)
    assert names.tolist() == ["a", "c"]
    assert sizes.tolist() == [3, 1]
    np.testing.assert_allclose(composition, [[2 / 3, 1 / 3], [0, 1]])
    np.testing.assert_array_equal(shares(np.array([[0, 0], [1, 3]])), [[np.nan, np.nan], [0.25, 0.75]])


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (4, 2)])
def test_the_best_pairing_of_all(shape: tuple[int, int]) -> None:
    """Weighted by size; a niche beyond those of the other method resembles nothing."""
    rng = np.random.default_rng(1)
    matrix, sizes = rng.uniform(0, 1, shape), rng.integers(1, 100, shape[0])
    padded = np.hstack([matrix, np.ones((shape[0], max(0, shape[0] - shape[1])))])
    rows = np.arange(shape[0])
    means = {
        order: float(padded[rows, list(order)] @ sizes / sizes.sum())
        for order in permutations(range(padded.shape[1]), shape[0])
    }
    partners, mean = pair_niches(matrix, sizes, 2.0)
    assert mean == pytest.approx(min(means.values()))
    chosen = padded[rows, np.where(partners >= 0, partners, -1)]
    assert chosen @ sizes / sizes.sum() == pytest.approx(mean)
    assert (partners < 0).sum() == max(0, shape[0] - shape[1])
    drawn = random_pairings(matrix, sizes, 2.0, 2000, seed=0)
    assert (drawn >= mean - 1e-12).all()
    assert all(np.isclose(each, list(means.values())).any() for each in np.unique(drawn)[:50])
    assert drawn.mean() == pytest.approx(np.mean(list(means.values())), abs=0.02)
    np.testing.assert_array_equal(drawn, random_pairings(matrix, sizes, 2.0, 2000, seed=0))
    assert (drawn != random_pairings(matrix, sizes, 2.0, 2000, seed=1)).any()
