"""The expression side: blocks and pooling against plain loops, and what must not matter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stdistill.models.alignment.expression import AttentionPooling, ExpressionNetwork, SageBlock
from stdistill.models.alignment.tiles import CellGraphs

SIZE = {"width": 8, "n_dims": 6, "edge_temperature": 0.5, "dropout": 0.0}


def network(edges: str = "stochastic") -> ExpressionNetwork:
    torch.manual_seed(0)
    made = ExpressionNetwork(6, edges=edges, **SIZE).double().eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def as_double(graphs):  # type: ignore[no-untyped-def]
    return graphs._replace(cells=graphs.cells.double())


def test_a_block_by_hand() -> None:
    torch.manual_seed(0)
    block = SageBlock(4, dropout=0.5).double().eval()
    cells = torch.randn(4, 4, dtype=torch.float64)
    edges, weights = torch.tensor([[0, 0, 1], [1, 2, 2]]), torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)
    found = block(cells, edges, weights)
    normed = block.norm(cells)
    for cell in range(4):
        own = [k for k in range(3) if edges[0, k] == cell]
        mean = torch.zeros(4, dtype=torch.float64)
        if own:
            mean = sum(weights[k] * normed[edges[1, k]] for k in own) / sum(weights[k] for k in own)
        update = block.update.weight @ torch.cat([normed[cell], mean]) + block.update.bias
        torch.testing.assert_close(found[cell], cells[cell] + update * torch.sigmoid(update))


def test_pooling_by_hand() -> None:
    torch.manual_seed(0)
    pool = AttentionPooling(3).double()
    cells, tile = torch.randn(5, 3, dtype=torch.float64) * 30, torch.tensor([0, 2, 0, 2, 2])
    found = pool(cells, tile, 4)
    normed = pool.norm(cells)
    for number in (0, 2):
        own = normed[tile == number]
        attention = torch.softmax(own @ pool.gate.weight[0], dim=0)
        torch.testing.assert_close(found[number], (attention[:, None] * pool.value(own)).sum(dim=0))
    assert (found[[1, 3]] == 0).all()


def test_a_tile_knows_how_many_cells_it_has(make: Callable) -> None:
    """Also of those that are left out in training; on the scale of the training tiles."""
    side = network("none")
    side.set_scale(torch.zeros(6), torch.ones(6), torch.tensor([10, 40]))
    assert side.mean_size.item() == pytest.approx(np.log(20))
    assert side.std_size.item() == pytest.approx(np.log(2))
    graphs = make(n_side=2, n_cells=20).graphs
    whole = graphs.batch(np.arange(4))
    part = graphs.batch(np.arange(4), left_out=0.5, rng=np.random.default_rng(0))
    assert whole.n_cells.tolist() == part.n_cells.tolist() == [20] * 4
    few, many = (as_double(whole)._replace(n_cells=torch.full((4,), n)) for n in (20, 40))
    for scale, vectors in side(many, 4).items():
        pooled = side.pool[scale](side.cells(many)[scale], many.tile, 4)
        expected = side.project[scale](torch.cat([pooled, torch.ones(4, 1, dtype=torch.float64)], dim=1))
        torch.testing.assert_close(vectors, torch.nn.functional.normalize(expected, dim=1))
        assert (vectors - side(few, 4)[scale]).abs().max() > 0.01
    side.set_scale(torch.zeros(6), torch.ones(6), torch.tensor([20, 20]))  # all alike
    assert torch.isfinite(side(many, 4)["macro"]).all()


@pytest.mark.parametrize("edges", ["stochastic", "all", "none"])
def test_neither_order_nor_batch_matters(make: Callable, edges: str) -> None:
    side = network(edges)
    graphs = make(n_side=3).graphs
    alone = side(as_double(graphs.batch(np.array([4]))), 1)
    among = side(as_double(graphs.batch(np.array([7, 4, 0, 8]))), 4)
    turned = np.random.default_rng(1).permutation(len(graphs.cells))
    tile = np.empty(len(turned), dtype=int)
    place = np.empty(len(turned), dtype=int)
    micro = graphs.code % 16
    tile[graphs.order] = graphs.code // 16
    place[graphs.order] = (micro // 8 * 2 + micro % 4 // 2) * 4 + micro // 4 % 2 * 2 + micro % 2
    again = CellGraphs(
        graphs.cells[turned], graphs.centers[turned], tile[turned], place[turned], 9, radius_um=20.0, max_pairs=5000
    )
    shuffled = side(as_double(again.batch(np.array([4]))), 1)
    for scale, vector in alone.items():
        torch.testing.assert_close(among[scale][1], vector[0])
        torch.testing.assert_close(shuffled[scale][0], vector[0])
        torch.testing.assert_close(vector.norm(), torch.tensor(1.0, dtype=torch.float64))


def test_edges_are_only_added(make: Callable) -> None:
    """The micro scale is the same whatever is added; the meso scale hears from other places of its quadrant alone."""
    graphs = as_double(make(n_side=1).graphs.batch(np.array([0])))
    none, every = network("none"), network("all")
    every.load_state_dict(none.state_dict())
    torch.testing.assert_close(every.cells(graphs)["micro"], none.cells(graphs)["micro"])
    before = every.cells(graphs)["meso"]
    changed = graphs.cells.clone()
    changed[-1] += 5  # a cell of the last quadrant
    after = every.cells(graphs._replace(cells=changed))
    quadrant_of_last = torch.cat([graphs.meso[0][graphs.meso[1] == len(changed) - 1], torch.tensor([len(changed) - 1])])
    heard = set(quadrant_of_last.tolist()) | set(graphs.micro[0][graphs.micro[1] == len(changed) - 1].tolist())
    moved = (after["meso"] - before).abs().amax(dim=1) > 1e-12
    assert set(moved.nonzero()[:, 0].tolist()) <= set(range(len(changed)))
    far = [cell for cell in range(len(changed)) if cell not in heard]
    first_quadrant = [cell for cell in far if cell < 3]
    assert not moved[first_quadrant].any()
    assert (after["macro"] - every.cells(graphs)["macro"]).abs().amax(dim=1).gt(1e-12)[first_quadrant].all()


def test_tiles_with_one_cell_and_without_any(make: Callable) -> None:
    graphs = CellGraphs(
        np.ones((1, 6), dtype=np.float32),
        np.zeros((1, 2)),
        np.array([1]),
        np.array([3]),
        3,
        radius_um=20.0,
        max_pairs=9,
    )
    assert graphs.n_cells.tolist() == [0, 1, 0]
    found = network()(as_double(graphs.batch(np.arange(3))), 3)
    for vectors in found.values():
        assert torch.isfinite(vectors).all()
        assert vectors[1].norm() > 0.99
