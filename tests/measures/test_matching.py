"""Which labels mean the same, beside all ways there are."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from stdistill._measures.matching import best_partners, nearest_names


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_partners_share_most_together(shape: tuple[int, int]) -> None:
    overlap = np.random.default_rng(0).integers(1, 100, shape)
    found = best_partners(overlap)
    paired = found >= 0
    assert paired.sum() == min(shape)
    assert len(set(found[paired])) == min(shape)
    square = np.zeros((5, 5), dtype=int)
    square[: shape[0], : shape[1]] = overlap
    best = max(square[np.arange(5), list(order)].sum() for order in permutations(range(5)))
    assert overlap[np.flatnonzero(paired), found[paired]].sum() == best


def test_the_sum_decides_not_the_largest() -> None:
    """Greedily the first row would take the first column, and 1 be left for the second."""
    assert best_partners(np.array([[10, 9], [9, 1]])).tolist() == [1, 0]


def test_labels_that_share_nothing_are_no_partners() -> None:
    assert best_partners(np.array([[3, 0, 0], [0, 0, 0], [0, 0, 0]])).tolist() == [0, -1, -1]


def test_clusters_take_the_names_of_the_nearest() -> None:
    """One to one; one that is left over gets a new number, whatever it is near to."""
    centers = np.array([[0.0, 0], [10, 0], [0, 10]], dtype=np.float32)
    named = np.repeat([2, 0, 1], 5)
    renamed = np.repeat([0, 1, 2, 3], 4)
    turned = np.array([[0.5, 9], [9, 1], [1, 0], [0, 10.2]], dtype=np.float32)
    found = nearest_names(turned[renamed], renamed, centers[np.repeat([0, 1, 2], 5)], named)
    expected = {1: 0, 2: 2, 3: 1, 0: 3}
    assert found.tolist() == [expected[label] for label in renamed]


def test_the_same_clusters_keep_their_names() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    labels = np.arange(60) % 5
    order = rng.permutation(5)
    np.testing.assert_array_equal(nearest_names(features, order[labels], features, labels), labels)
    fewer = np.where(labels == 4, 3, labels)
    assert set(nearest_names(features, fewer, features, labels)) <= set(range(5))
