from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stdistill._drawing.matrix import cluster_order

LIKENESS = pd.DataFrame([[9, -1, 0.9, -1], [-1, 9, -1, 0.8], [0.9, -1, 9, np.nan], [-1, 0.8, np.nan, 9]])


def test_order_is_by_what_is_alike() -> None:
    before = LIKENESS.copy()
    order = cluster_order(LIKENESS).tolist()
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset([0, 2]), frozenset([1, 3])}
    pd.testing.assert_frame_equal(LIKENESS, before)


def test_the_diagonal_plays_no_part() -> None:
    other = LIKENESS.to_numpy().copy()
    np.fill_diagonal(other, [np.nan, -5, 0, 100])
    assert cluster_order(pd.DataFrame(other)).tolist() == cluster_order(LIKENESS).tolist()


def test_a_chain_is_put_in_order() -> None:
    place = np.random.default_rng(0).permutation(12)
    chain = pd.DataFrame(-np.abs(place[:, None] - place[None, :]).astype(float))
    ordered = place[cluster_order(chain)]
    assert ordered.tolist() in (list(range(12)), list(range(11, -1, -1)))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_names(n: int) -> None:
    assert sorted(cluster_order(LIKENESS.iloc[:n, :n])) == list(range(n))
    nothing = pd.DataFrame(np.full((n, n), np.nan))
    assert sorted(cluster_order(nothing)) == list(range(n))
