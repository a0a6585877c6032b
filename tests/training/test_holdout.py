from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from stdistill._graph.radius_graph import radius_graph
from stdistill._training.holdout import hold_out_blocks


def tissue(n: int, extent: float, radius_um: float = 20.0) -> dict:
    centers = np.random.default_rng(0).uniform(0, extent, (n, 2))
    libraries = np.repeat([0, 1], [n - n // 3, n // 3])
    graph, _ = radius_graph(centers, radius_um, libraries)
    parts = {"centers": centers, "libraries": libraries, "indptr": graph.indptr, "indices": graph.indices}
    return {**parts, "radius_um": radius_um}


@pytest.mark.parametrize("extent", [1000.0, 300.0])
def test_blocks_are_seen_by_no_cell_that_is_trained_on(extent: float) -> None:
    cells = tissue(6000, extent)
    training = np.random.default_rng(1).random(6000) < 0.8
    fitting, held_out = hold_out_blocks(**cells, training=training, seed=0)
    assert not (fitting & held_out).any()
    assert not ((fitting | held_out) & ~training).any()
    rows = np.repeat(np.arange(6000), np.diff(cells["indptr"]))
    assert not (fitting[rows] & held_out[cells["indices"]]).any()
    assert 0.05 < held_out.sum() / training.sum() < 0.3
    assert fitting.sum() > 0.4 * training.sum()


def test_seed_chooses_the_blocks() -> None:
    cells = tissue(6000, 1000.0)
    training = np.ones(6000, dtype=bool)
    (_, first), (_, same), (_, other) = (hold_out_blocks(**cells, training=training, seed=seed) for seed in (0, 0, 1))
    assert (first == same).all()
    assert (first != other).any()


@pytest.mark.parametrize("n", [1, 40])
def test_too_small_a_tissue_holds_nothing_out(n: int) -> None:
    training = np.ones(n, dtype=bool)
    fitting, held_out = hold_out_blocks(**tissue(n, 40.0), training=training, seed=0)
    assert fitting.all()
    assert not held_out.any()


def test_a_large_tissue_holds_out_no_more_than_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stdistill._training.holdout.MOST", 100)
    training = np.ones(6000, dtype=bool)
    fitting, held_out = hold_out_blocks(**tissue(6000, 1000.0), training=training, seed=0)
    assert 100 <= held_out.sum() < 250
    assert fitting.sum() > 0.9 * 6000


def test_whole_blocks_are_held_out() -> None:
    """Of a square grid of cells, 10 µm apart, blocks of eight radii: 16 × 16 cells each, all of them or none."""
    side = 96
    y, x = np.divmod(np.arange(side**2), side)
    centers = np.stack([x, y], axis=1) * 10.0
    graph, _ = radius_graph(centers, 20.0, np.zeros(len(centers), dtype=np.int64))
    parts = {"libraries": np.zeros(len(centers), dtype=int), "indptr": graph.indptr, "indices": graph.indices}
    training = np.ones(len(centers), dtype=bool)
    fitting, held_out = hold_out_blocks(centers, **parts, training=training, radius_um=20.0, seed=3)
    blocks = held_out.reshape(6, 16, 6, 16).swapaxes(1, 2).reshape(36, 256)
    assert set(blocks.sum(axis=1).tolist()) == {0, 256}
    assert held_out.sum() == 4 * 256  # the fewest blocks that are a tenth
    near = cKDTree(centers[held_out]).query(centers)[0] <= 20.0
    np.testing.assert_array_equal(fitting, ~near)


def test_slides_are_cut_apart() -> None:
    """Two slides in one frame, cell upon cell: a block is of one of them."""
    cells = tissue(6000, 1000.0)
    half = cells["centers"][:3000]
    libraries = np.repeat([0, 1], 3000)
    centers = np.concatenate([half, half])
    graph, _ = radius_graph(centers, 20.0, libraries)
    training = np.ones(6000, dtype=bool)
    _, held_out = hold_out_blocks(centers, libraries, graph.indptr, graph.indices, training, radius_um=20.0, seed=0)
    first, second = np.split(held_out, 2)
    assert first.any() or second.any()
    assert (first != second).any()


def test_nothing_to_train_on() -> None:
    fitting, held_out = hold_out_blocks(**tissue(100, 1000.0), training=np.zeros(100, dtype=bool), seed=0)
    assert not fitting.any()
    assert not held_out.any()


def test_cells_without_neighbours() -> None:
    """Far from each other: none sees another, and all that are not held out are learned from."""
    centers = np.random.default_rng(0).permutation(900)[:, None] * [100.0, 0.0] + [0.0, 5.0]
    none = np.zeros(901, dtype=int), np.zeros(0, dtype=int)
    training = np.ones(900, dtype=bool)
    fitting, held_out = hold_out_blocks(centers, np.zeros(900, dtype=int), *none, training, radius_um=20.0, seed=0)
    assert 0.05 < held_out.mean() < 0.2
    np.testing.assert_array_equal(fitting, ~held_out)
