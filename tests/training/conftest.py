from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stdistill._training.arguments import DEFAULTS, TrainingArguments
from stdistill._training.fingerprint import fingerprint_run
from stdistill._training.objective import Objective
from stdistill._training.sampling import BatchRequest

QUICK: TrainingArguments = {
    **DEFAULTS,
    "batch_size": 20,
    "max_epochs": 4,
    "weight_decay": 0.0,
    "accelerator": "cpu",
    "progress_bar": False,
}


class Line(Dataset[tuple[Tensor, Tensor]]):
    """Points of y = 2 x + 1."""

    def __init__(self, n: int) -> None:
        self.x = torch.linspace(-1, 1, n)[:, None]

    def __getitem__(self, request: BatchRequest) -> tuple[Tensor, Tensor]:
        x = self.x[request.rows]
        return x, 2 * x + 1


class Squares(Objective):
    """Least squares; the losses of validation may be written down, one for each epoch."""

    said: Sequence[float] = ()

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        x, y = batch
        if self.said and not self.training:
            return torch.tensor(self.said[self.current_epoch]), len(x)
        return (self.network(x) - y).square().mean(), len(x)


@pytest.fixture
def make_objective() -> Callable[..., Squares]:
    """A line through 60 points, of which the last 20 are for validation, and a layer that is to learn it."""

    def make(*, said: Sequence[float] = (), n_fitting: int = 40, **changes: Any) -> Squares:
        torch.manual_seed(0)
        arguments: TrainingArguments = {**QUICK, **changes}  # type: ignore[typeddict-item]
        made = Squares(
            nn.Linear(1, 1),
            Line(60),
            np.arange(n_fitting),
            arguments,
            fingerprint_run(arguments),
            validation=np.arange(40, 60),
        )
        made.said = said
        return made

    return make
