"""Both sides together: scales that are chosen, statistics of the training, and one space of all scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stdistill._training.sampling import BatchRequest
from stdistill.models.alignment.network import LARGEST_SCALE, AlignmentNetwork, HEProjection
from stdistill.models.alignment.tiles import TileBatch, TileDataset

SIZE: dict[str, Any] = {
    "width": 8,
    "hidden": 7,
    "n_dims": 5,
    "edges": "all",
    "edge_temperature": 0.5,
    "dropout": 0.0,
    "temperature": 0.1,
}


def network(*scales: str, **changes: Any) -> AlignmentNetwork:
    torch.manual_seed(0)
    return AlignmentNetwork(dict.fromkeys(scales, 8), 6, **SIZE | changes).eval()


def batch_of(data: Any, tiles: list[int], **changes: Any) -> TileBatch:
    how = {"with_candidates": True, "left_out": 0.0} | changes
    dataset = TileDataset(data.images, data.graphs, data.slide, data.centers, **how)
    return dataset[BatchRequest(np.array(tiles), (0, 1, 2))]


def test_the_projection_by_hand() -> None:
    """Standardised and clipped, one hidden layer with SiLU, unit length; what hardly varies is not blown up."""
    torch.manual_seed(0)
    project = HEProjection(3, hidden=4, n_dims=2, dropout=0.5).eval()
    project.set_scale(torch.tensor([1.0, 2.0, 0.0]), torch.tensor([2.0, 4.0, 0.0]))
    found = project(torch.tensor([[3.0, 2.0, 1.0], [1000.0, 2.0, 0.0]], dtype=torch.float16))
    read = torch.tensor([[1.0, 0.0, 0.5], [10.0, 0.0, 0.0]])  # the last feature is divided by the spread of the first
    _, first, _, _, second = project.layers
    hidden = read @ first.weight.T + first.bias
    expected = hidden * torch.sigmoid(hidden) @ second.weight.T + second.bias
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True))


def test_scales_that_are_aligned_alone(make: Callable) -> None:
    data = make(n_side=3)
    batch = batch_of(data, [4, 0, 8])
    every, one = network("micro", "meso", "macro"), network("macro")
    assert every.scales == ["micro", "meso", "macro"]
    he, expression = one(batch)
    assert list(he) == list(expression) == ["macro"]
    for side in every(batch):
        assert list(side) == every.scales
        for vectors in side.values():
            assert vectors.shape == (3, 5)
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(("temperature", "expected"), [(0.1, 10.0), (0.01, 100.0), (1e-4, LARGEST_SCALE), (2.0, 0.5)])
def test_temperature(temperature: float, expected: float) -> None:
    """It is learned, as a logarithm, and falls no lower than 0.01."""
    scale = network("macro", temperature=temperature).contrast_scale()
    assert scale.item() == pytest.approx(expected, rel=1e-5)
    assert scale.requires_grad


def test_a_request_gives_the_same_batch_every_time(make: Callable) -> None:
    """Whichever worker makes it: what is left out is drawn by the request."""
    data = make(n_side=3)
    first, again = (batch_of(data, [4, 0, 8], left_out=0.5) for _ in range(2))
    assert torch.equal(first.graphs.cells, again.graphs.cells)
    assert 0 < len(first.graphs.cells) < len(batch_of(data, [4, 0, 8]).graphs.cells)
    assert first.images["micro"].dtype == torch.float32
    np.testing.assert_array_equal(first.images["micro"], data.images["micro"][[4, 0, 8]].astype(np.float32))
    np.testing.assert_array_equal(first.centers, data.centers[[4, 0, 8]])


def test_edges_between_places_are_not_even_listed_without_need(make: Callable) -> None:
    graphs = batch_of(make(n_side=3), [4, 0, 8], with_candidates=False).graphs
    assert graphs.meso.shape == graphs.macro.shape == (2, 0)
    assert graphs.micro.shape[1] > 0
