from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stdistill._graph.radius_graph import radius_graph
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.network import NicheNetwork

RADIUS_UM = 60.0


@pytest.fixture
def make_neighborhoods() -> Callable[..., Neighborhoods]:
    """Cells at random places, denser towards the left, with random features."""

    def make(n: int = 200, *, n_features: int = 5, extent: float = 400.0, seed: int = 0, **options) -> Neighborhoods:
        rng = np.random.default_rng(seed)
        centers = rng.uniform(0, 1, (n, 2)) ** (2, 1) * extent
        graph, _ = radius_graph(centers, RADIUS_UM, np.zeros(n, dtype=np.int64))
        features = options.pop("features", rng.normal(size=(n, n_features)).astype(np.float32))
        return Neighborhoods(features, graph.indptr, graph.indices, centers, RADIUS_UM, **options)

    return make


@pytest.fixture
def make_network() -> Callable[..., NicheNetwork]:
    """A small network with weights that are not all near 0."""

    def make(n_features: int = 5, k: int = 3, **options) -> NicheNetwork:
        torch.manual_seed(0)
        size = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "dropout": 0.0, "head": "linear"}
        network = NicheNetwork(n_features, k, **(size | options))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        network.set_standardization(torch.linspace(-1, 1, n_features), torch.linspace(0.5, 2, n_features))
        return network.eval()

    return make
