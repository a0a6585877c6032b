from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stdistill.models.explanation.question import Question
from stdistill.models.niche.batches import Neighborhoods, TokenBatch


class Told(nn.Module):
    """A network whose log-odds of the first of two niches are a function of the features of the tokens it reads."""

    def __init__(self, answer: Callable[[Tensor], Tensor], n_features: int) -> None:
        super().__init__()
        self.answer = answer
        self.register_buffer("mean", torch.zeros(n_features))
        self.n_read: list[int] = []

    def forward(self, batch: TokenBatch) -> Tensor:
        logits = torch.zeros(len(batch.centers), 2)
        for block in batch.blocks:
            self.n_read.append(block.mask.numel())
            for where, rows, mask in zip(block.where, block.rows, block.mask, strict=True):
                logits[where, 0] = self.answer(batch.features[rows[mask]])
        return logits + 7  # which no answer depends on


@pytest.fixture
def ask() -> Callable[..., Question]:
    """A question to such a network about the first of cells that are all neighbours of each other."""

    def ask(features: Any, answer: Callable[[Tensor], Tensor], temperature: float = 1.0) -> Question:
        features = np.asarray(features, dtype=np.float32)
        n = len(features)
        indices = np.concatenate([np.delete(np.arange(n), cell) for cell in range(n)])
        centers = np.c_[np.arange(n), np.zeros(n)]
        around = Neighborhoods(features, np.arange(n + 1) * (n - 1), indices, centers, float(n))
        return Question(Told(answer, features.shape[1]), around, 0, temperature, torch.device("cpu"))

    return ask
