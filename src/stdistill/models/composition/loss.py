"""The loss of Sun, Zhu and Qiu 2025, section 2.1: squared and absolute error, and correlation."""

from __future__ import annotations

import torch
from torch import Tensor

from stdistill.models.composition.arguments import PearsonAxis

SMALLEST = 1e-8
"""ε of the paper, which states no value: what is constant correlates with nothing, and passes no gradient on."""


def composition_loss(
    predicted: Tensor, targets: Tensor, *, mae_weight: float, pearson_weight: float, pearson_axis: PearsonAxis
) -> Tensor:
    """MSE + λ₁ · MAE − λ₂ · r.

    Parameters
    ----------
    predicted, targets
        (n, types).
    mae_weight, pearson_weight
        λ₁ and λ₂.
    pearson_axis
        What is correlated: ``"flat"``, all values of the batch at once; ``"type"``, each type over the rows;
        ``"spot"``, each row over the types. The mean of these correlations counts.
    """
    error = predicted - targets
    loss = error.square().mean() + mae_weight * error.abs().mean()
    return loss - pearson_weight * pearson(predicted, targets, pearson_axis).mean()


def pearson(one: Tensor, other: Tensor, axis: PearsonAxis) -> Tensor:
    """Correlate two (n, types); 0 where one of them is constant."""
    if axis == "flat":
        one, other = one.reshape(-1, 1), other.reshape(-1, 1)
    over = 1 if axis == "spot" else 0
    one, other = one - one.mean(dim=over, keepdim=True), other - other.mean(dim=over, keepdim=True)
    # The gradient of this norm at 0 is 0, that of a square root is not a number.
    norms = torch.linalg.vector_norm(one, dim=over) * torch.linalg.vector_norm(other, dim=over)
    correlations: Tensor = (one * other).sum(dim=over) / (norms + SMALLEST)
    return correlations
