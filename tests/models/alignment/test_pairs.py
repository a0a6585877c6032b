"""Pairs of cells, by brute force."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from stdistill.models.alignment import pairs as module
from stdistill.models.alignment.pairs import Pairs, candidate_pairs, near_pairs, pairs_within
from stdistill.models.alignment.tiles import CellGraphs


def as_set(pairs: Pairs) -> set[tuple[int, int]]:
    found = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert len(set(found)) == len(found)
    return set(found)


def places(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tile, meso and micro place of cells, ascending, and centres."""
    rng = np.random.default_rng(seed)
    micro = np.sort(rng.integers(0, 5 * 16, n))
    return micro // 16, micro // 4, micro, rng.uniform(0, 128, (n, 2))


def test_pairs_of_groups_by_hand() -> None:
    assert as_set(pairs_within(np.array([2, 2, 2, 5, 7, 7]))) == {(0, 1), (0, 2), (1, 2), (4, 5)}
    assert as_set(pairs_within(np.zeros(0, dtype=np.int64))) == set()
    assert pairs_within(np.array([1, 1])).both_ways().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("n", [0, 1, 40, 150])
def test_candidates_by_brute_force(n: int) -> None:
    tile, meso, micro, centers = places(n, seed=n)
    expected = {
        "micro": {
            (i, j)
            for i, j in combinations(range(n), 2)
            if micro[i] == micro[j] and np.hypot(*(centers[i] - centers[j])) <= 30
        },
        "meso": {(i, j) for i, j in combinations(range(n), 2) if meso[i] == meso[j] and micro[i] != micro[j]},
        "macro": {(i, j) for i, j in combinations(range(n), 2) if tile[i] == tile[j] and meso[i] != meso[j]},
    }
    assert as_set(near_pairs(micro, centers, 30.0)) == expected["micro"]
    assert as_set(candidate_pairs(meso, micro, tile, centers, 10**6)) == expected["meso"]
    assert as_set(candidate_pairs(tile, meso, tile, centers, 10**6)) == expected["macro"]


@pytest.mark.parametrize("at_once", [10, 200, 10**6])
def test_of_dense_tiles_the_nearest_are_kept(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", at_once)
    tile, meso, _, centers = places(120, seed=1)
    every = candidate_pairs(tile, meso, tile, centers, 10**6)
    kept = as_set(candidate_pairs(tile, meso, tile, centers, 25))
    for number in range(5):
        own = [(i, j) for i, j in as_set(every) if tile[i] == number]
        nearest = sorted(own, key=lambda pair: np.hypot(*(centers[pair[0]] - centers[pair[1]])))[:25]
        assert {pair for pair in kept if tile[pair[0]] == number} == set(nearest)


def test_a_tile_that_is_dense_says_so(make: Callable) -> None:
    graphs = make(n_side=2, n_cells=30, max_pairs=100).graphs
    assert graphs.pairs_left_out() == 4
    assert graphs.batch(np.array([0])).macro.shape[1] == 200
    assert make(n_side=2, n_cells=30).graphs.pairs_left_out() == 0


@pytest.mark.parametrize("most", [20, 60, 120, 300])
def test_tiles_whose_candidates_are_cut_are_counted(make: Callable, most: int) -> None:
    graphs, free = (make(n_side=3, n_cells=25, max_pairs=each).graphs for each in (most, 10**6))
    cut = [
        any(len(a[0]) < len(b[0]) for a, b in zip(graphs.batch(tile)[3:5], free.batch(tile)[3:5], strict=True))
        for tile in np.arange(9)[:, None]
    ]
    assert graphs.pairs_left_out() == sum(cut)


def test_places_are_those_of_the_image() -> None:
    """Row by row: places 0, 1, 4 and 5 are the upper left quadrant."""
    place = np.array([0, 1, 4, 5, 2, 10, 15])
    cells = np.arange(7, dtype=np.float32)[:, None]
    graphs = CellGraphs(cells, np.zeros((7, 2)), np.zeros(7, dtype=int), place, 1, radius_um=1.0, max_pairs=99)
    batch = graphs.batch(np.array([0]))
    number = batch.cells[:, 0].long()

    def found(pairs: np.ndarray) -> set[tuple[int, ...]]:
        return {tuple(sorted(place[number[pair]])) for pair in pairs.T.tolist()}

    assert found(batch.meso) == {(0, 1), (0, 4), (0, 5), (1, 4), (1, 5), (4, 5), (10, 15)}
    assert len(found(batch.macro)) == 4 + 8 + 2  # upper left with upper right and lower right, and these
    assert batch.micro.shape == (2, 0)
