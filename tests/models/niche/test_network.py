"""Features as the network reads them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stdistill._measures.feature_gaussian import FARTHEST
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.network import NicheNetwork


def test_standardization_by_hand(make_network: Callable[..., NicheNetwork]) -> None:
    """The last two features are constant, or nearly so: they are divided by the median of 2, 2, 4 and 1e-6."""
    network = make_network(5)
    network.set_standardization(torch.tensor([1.0, 0, 0, 7, 0]), torch.tensor([2.0, 2, 4, 0, 1e-6]))
    features = torch.tensor([[3.0, 0, -4, 7, 1], [-1.0, 1, 1e4, 8, 1e-3], [1e4, 0, 0, -1e4, 0]], dtype=torch.float64)
    expected = torch.tensor([[1.0, 0, -1, 0, 0.5], [-1, 0.5, FARTHEST, 0.5, 5e-4], [FARTHEST, 0, 0, -FARTHEST, 0]])
    torch.testing.assert_close(network.standardize(features), expected)


def test_a_missing_feature_stays_missing(make_network: Callable[..., NicheNetwork]) -> None:
    assert make_network(2).standardize(torch.tensor([[torch.nan, 0.0]])).isnan().tolist() == [[True, False]]


@pytest.mark.parametrize("level", [1e2, 1e6, 1e30])
def test_far_is_as_far_as_it_gets(
    make_network: Callable[..., NicheNetwork], make_neighborhoods: Callable[..., Neighborhoods], level: float
) -> None:
    network, data = make_network(), make_neighborhoods(50)
    outputs = []
    for value in (50.0, level):
        features = data.features.copy()
        features[:, 2] = value
        moved = make_neighborhoods(50, features=features)
        with torch.inference_mode():
            outputs.append(network(moved.batch(moved.tokens(np.arange(50)))))
    torch.testing.assert_close(outputs[0], outputs[1])
