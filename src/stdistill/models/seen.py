"""The cells that a model was fitted on, as it remembers them itself: it knows them in whatever table they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from stdistill._support.arrays import Floats, Mask

SEEN = "seen_cells"
"""Of its tensor among the weights of a model."""
CHUNK = 4_000_000
"""Numbers that are hashed at once."""

Marks = npt.NDArray[np.int64]


def mark_cells(features: npt.NDArray[Any], centers: Floats) -> Marks:
    """Give each cell (n,) a number by its features (n, d) and its centre (n, 2) in µm, the same in any table.

    Both count: features alone are equal for many cells where there are few of them, centres alone on a grid. They are
    rounded, so that other types of numbers make no other cells. Bits are multiplied by odd numbers and added up
    modulo 2⁶⁴ (our choice).
    """
    n_features = features.shape[1]
    odd = pd.util.hash_array(np.arange(n_features + 2, dtype=np.uint64)) | np.uint64(1)
    place = np.ascontiguousarray(centers, dtype=np.float32).view(np.uint32).astype(np.uint64)
    marks: npt.NDArray[np.uint64] = place @ odd[n_features:]
    step = max(1, CHUNK // max(1, n_features))
    for start in range(0, len(features), step):
        part = np.asarray(features[start : start + step])
        with np.errstate(over="ignore"):
            bits = np.ascontiguousarray(part, dtype=np.float16).view(np.uint16)
        marks[start : start + step] += bits.astype(np.uint64) @ odd[:n_features]
    return marks.view(np.int64)


def remember(marks: Marks, fitted: Mask) -> Marks:
    """Return what a model keeps of the cells that it was fitted on."""
    return np.unique(marks[fitted])


def recall(weights: dict[str, Tensor]) -> Marks | None:
    """Take what a model keeps from its weights; `None` of one that an earlier version saved."""
    return weights[SEEN].numpy() if SEEN in weights else None


def to_tensors(seen: Marks | None) -> dict[str, Tensor]:
    """Return it as it is saved among the weights."""
    return {} if seen is None else {SEEN: torch.from_numpy(seen)}
