"""The cells that a model was fitted on, as it remembers them itself: it knows them in whatever table they come."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SEEN = "seen_cells"
"""Of its tensor among the weights of a model."""

Seen = npt.NDArray[np.int64]
"""Sorted marks of cells."""


def recall(weights: dict[str, Tensor]) -> Seen | None:
    """Take what a model keeps from its weights; `None` of one that an earlier version saved."""
    return weights[SEEN].numpy() if SEEN in weights else None


def to_tensors(seen: Seen | None) -> dict[str, Tensor]:
    """Return it as it is saved among the weights."""
    return {} if seen is None else {SEEN: torch.from_numpy(seen)}
