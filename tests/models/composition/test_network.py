from __future__ import annotations

import pytest
import torch
from torch import nn

from stdistill.models.composition.network import CompositionNetwork

SIZE = {"width": 8, "depth": 3, "dropout": 0.0}


def make(output: str = "linear", **size: object) -> CompositionNetwork:
    torch.manual_seed(0)
    network = CompositionNetwork(4, 3, **{**SIZE, **size}, output=output)  # type: ignore[arg-type]
    network.set_scale(torch.arange(4.0), torch.ones(4), torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.5, 1.0, 0.0]))
    return network


@pytest.mark.parametrize(("depth", "n_linear", "inner"), [(1, 1, []), (2, 2, [8]), (7, 7, [8] * 6)])
def test_depth_counts_linear_layers(depth: int, n_linear: int, inner: list[int]) -> None:
    linear = [layer for layer in make(depth=depth).layers if isinstance(layer, nn.Linear)]
    assert len(linear) == n_linear
    assert [layer.out_features for layer in linear] == [*inner, 3]
    assert [layer.in_features for layer in linear] == [4, *inner]
    assert sum(isinstance(layer, nn.SiLU) for layer in make(depth=depth).layers) == n_linear - 1


def test_predictions_return_to_the_scale_of_the_targets() -> None:
    network = make(depth=0)
    network.set_ridge(torch.zeros(4, 3), torch.tensor([2.0, -9.0, 0.0]))
    abundances = network.abundances(torch.zeros(1, 4))
    assert abundances.tolist() == [[2.0, 0.0, 5.0]]  # 1 + 2 · 0.5; 2 − 9 is no abundance; 5 is constant
    assert network.scale_targets(torch.tensor([[2.0, 1.0, 5.0]])).tolist() == [[2.0, -1.0, 0.0]]


def test_layers_and_a_regression_are_averaged() -> None:
    """The regression says 0.5 + 1 · 2 + 2 · 10 + 1 · 3, and −1, of features that are 1, 0, 2 and 1 above the mean."""
    features = torch.tensor([[1.0, 1.0, 4.0, 4.0]])
    slope = torch.tensor([[2.0, 0.0, 0.0], [9.0, 0.0, 0.0], [10.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    regression, network = make(depth=0), make()
    layers = network(features)
    regression.set_ridge(slope, torch.tensor([0.5, -1.0, 0.0]))
    network.average_with(slope, torch.tensor([0.5, -1.0, 0.0]))
    assert regression(features).tolist() == [[25.5, -1.0, 0.0]]
    torch.testing.assert_close(network(features), (regression(features) + 2 * layers) / 3)
    assert layers.abs().min() > 0


def test_shares_sum_to_one() -> None:
    shares = make("softmax").abundances(torch.randn(10, 4))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(10))
    assert (shares >= 0).all()


def test_features_far_from_the_training_are_clipped() -> None:
    network = make()
    torch.testing.assert_close(network(torch.full((1, 4), 1e9)), network(torch.arange(4.0)[None] + 10))
