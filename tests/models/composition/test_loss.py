from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import approx_fprime

from stdistill.models.composition.arguments import PearsonAxis
from stdistill.models.composition.loss import composition_loss, pearson

AXES = get_args(PearsonAxis)

WEIGHTS = {"mae_weight": 0.3, "pearson_weight": 0.7}


def reference(axis: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """The paper's formulas in float64, by NumPy's own correlation."""

    def loss(predicted: np.ndarray, targets: np.ndarray) -> float:
        pairs = {
            "flat": [(predicted.ravel(), targets.ravel())],
            "type": list(zip(predicted.T, targets.T, strict=True)),
            "spot": list(zip(predicted, targets, strict=True)),
        }[axis]
        r = np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs])
        error = predicted - targets
        return float((error**2).mean() + 0.3 * np.abs(error).mean() - 0.7 * r)

    return loss


@pytest.mark.parametrize("axis", AXES)
def test_loss_and_gradient(axis: PearsonAxis) -> None:
    rng = np.random.default_rng(0)
    predicted, targets = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    read = torch.tensor(predicted, requires_grad=True)
    loss = composition_loss(read, torch.tensor(targets), pearson_axis=axis, **WEIGHTS)
    loss.backward()
    expected = reference(axis)
    assert_allclose(loss.item(), expected(predicted, targets), rtol=1e-7)
    slope = approx_fprime(predicted.ravel(), lambda flat: expected(flat.reshape(6, 4), targets), 1e-7)
    assert read.grad is not None
    assert_allclose(read.grad.numpy().ravel(), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axis", AXES)
def test_what_is_constant_correlates_with_nothing(axis: PearsonAxis) -> None:
    targets = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    for predicted in (torch.ones(2, 2), torch.tensor([[1.0, 2.0], [3.0, 5.0]])):
        read = predicted.clone().requires_grad_()
        loss = composition_loss(read, targets, pearson_axis=axis, mae_weight=0.5, pearson_weight=0.5)
        loss.backward()
        assert read.grad is not None
        assert torch.isfinite(loss)
        assert torch.isfinite(read.grad).all()
    assert pearson(torch.ones(2, 2), targets, axis).tolist() == [0] * (1 if axis == "flat" else 2)


@pytest.mark.parametrize("axis", AXES)
def test_batches_of_one_row_and_of_one_type(axis: PearsonAxis) -> None:
    rng = np.random.default_rng(1)
    for shape in ((1, 5), (5, 1), (1, 1)):
        read = torch.tensor(rng.normal(size=shape), requires_grad=True)
        targets = torch.tensor(rng.normal(size=shape))
        loss = composition_loss(read, targets, pearson_axis=axis, **WEIGHTS)
        loss.backward()
        assert read.grad is not None
        assert torch.isfinite(read.grad).all()
    one_row = torch.tensor(rng.normal(size=(1, 5)))
    assert pearson(one_row, one_row, "spot").item() == pytest.approx(1)
    assert pearson(one_row, one_row, "type").tolist() == [0] * 5


def test_axes_see_what_they_are_named_for() -> None:
    targets = torch.tensor([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]])
    swapped = targets.flip(0)
    assert pearson(swapped, targets, "type").tolist() == pytest.approx([-1, -1])
    assert pearson(swapped, targets, "spot").tolist() == pytest.approx([1, 1, 1])
    assert pearson(swapped, targets, "flat").item() > 0.9
