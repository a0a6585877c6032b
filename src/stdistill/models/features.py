"""Features as models see them: which rows have any, and the scale of a training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stdistill._measures.feature_gaussian import FARTHEST, LEAST_SPREAD
from stdistill._support.arrays import Floats, Integers
from stdistill._support.files import digest

ROWS_AT_ONCE = 16_384
"""Rows that are taken into memory at a time."""


class ReadableRows(Protocol):
    """Features (n, n_features) of which rows are read, by their numbers or in a slice."""

    @property
    def shape(self) -> tuple[int, ...]:
        """n, n_features."""

    def __getitem__(self, rows: Any, /) -> Floats | Tensor:
        """Read some rows."""


def known_rows(features: ReadableRows) -> npt.NDArray[np.bool_]:
    """Which rows have no NaN, read piece by piece."""
    known = np.empty(features.shape[0], dtype=bool)
    for start in range(0, len(known), ROWS_AT_ONCE):
        piece = as_tensor(features[start : start + ROWS_AT_ONCE])
        if piece.isinf().any():
            msg = "The features hold infinite values: they overflowed where they were computed. Compute them again."
            raise ValueError(msg)
        known[start : start + ROWS_AT_ONCE] = (~piece.isnan().any(dim=1)).cpu().numpy()
    return known


def feature_statistics(looks: Sequence[ReadableRows], cells: Integers) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (n_features,) of the features of cells with all looks, float32, piece by piece."""
    count, mean, squares = 0, torch.zeros(looks[0].shape[1], dtype=torch.float64), torch.zeros(1)
    for features, start in product(looks, range(0, len(cells), ROWS_AT_ONCE)):
        piece = as_tensor(features[np.sort(cells[start : start + ROWS_AT_ONCE])]).cpu().double()
        # Chan et al. 1983: sums of squares about a mean, merged without cancellation.
        shift = piece.mean(dim=0) - mean
        total = count + len(piece)
        within = ((piece - piece.mean(dim=0)) ** 2).sum(dim=0)
        squares = squares + within + shift**2 * (count * len(piece) / total)
        mean = mean + shift * (len(piece) / total)
        count = total
    return mean.float(), (squares / count).sqrt().float()


def digest_rows(features: ReadableRows, rows: Integers) -> str:
    """Tell rows of features, in their order, from others; read piece by piece."""
    pieces = (as_tensor(features[rows[start : start + ROWS_AT_ONCE]]) for start in range(0, len(rows), ROWS_AT_ONCE))
    return digest(*(digest(piece.cpu().numpy()) for piece in pieces))


def usable_spread(std: Tensor) -> Tensor:
    """Return what features (n_features,) are to be divided by; some of their standard deviations are above 0.

    A feature that is all but constant in the training is divided by the spread of the others: by its own it could be
    thousands on another slide, and drown them.
    """
    usual = std[std > 0].median()
    return std.where(std > LEAST_SPREAD * usual, usual)


def standardize(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Bring features (n, n_features) to the mean and spread of the training, in float32; clip outliers."""
    return ((features.float() - mean) / std).clamp(-FARTHEST, FARTHEST)


def as_tensor(rows: Floats | Tensor) -> Tensor:
    """Rows as a tensor; of a read-only memory map a copy, which is what tensors have to be made from."""
    return rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))
