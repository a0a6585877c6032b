from __future__ import annotations

import numpy as np
import pytest

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
