from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stdistill._measures.blocks import block_folds, blocks_of


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_folds=st.integers(2, 5),
    gap=st.floats(0, 1),
    shift=st.floats(-1e5, 1e5),
    extent=st.tuples(st.floats(300, 900), st.floats(300, 900)),
)
def test_cells_to_fit_on_are_a_gap_away(
    seed: int, n_folds: int, gap: float, shift: float, extent: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, extent, (200, 2)) + shift
    folds = block_folds(centers, rng.integers(0, 3, 200), n_folds=n_folds, block_um=100, gap_um=100 * gap)
    assert sorted(np.concatenate([fold.score for fold in folds])) == list(range(200))
    blocks = np.floor((centers - centers.min(axis=0)) / 100)
    for fold in folds:
        # From each other cell to the nearest scored square, by brute force.
        low = np.unique(blocks[fold.score], axis=0) * 100 + centers.min(axis=0)
        away = np.maximum(np.maximum(low - centers[:, None], centers[:, None] - low - 100), 0)
        distance = np.hypot(*np.moveaxis(away, -1, 0)).min(axis=1)
        others = np.setdiff1d(np.arange(200), fold.score)
        clear = np.abs(distance[others] - 100 * gap) > 1e-6
        expected = others[clear & (distance[others] > 100 * gap)]
        assert set(expected) <= set(fold.fit)
        assert not set(others[clear & (distance[others] < 100 * gap)]) & set(fold.fit)
        assert not set(fold.score) & set(fold.fit)


def test_folds_hold_each_class() -> None:
    """Four classes in quarters of the slide: each fold has cells of all."""
    centers = np.stack(np.meshgrid(np.arange(80.0), np.arange(80.0)), axis=-1).reshape(-1, 2)
    classes = (centers[:, 0] > 40) * 2 + (centers[:, 1] > 40)
    for fold in block_folds(centers, classes, n_folds=4, block_um=10, gap_um=2):
        shares = np.bincount(classes[fold.score], minlength=4) / len(fold.score)
        assert shares == pytest.approx([0.25] * 4, abs=0.06)


def test_blocks_are_squares() -> None:
    centers = np.array([[0.0, 0], [9.9, 9.9], [10, 0], [0, 10], [35, 0]])
    blocks = blocks_of(centers, 10)
    assert blocks[0] == blocks[1]
    assert len(set(blocks)) == 4
