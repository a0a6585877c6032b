"""Resamples a window of a level to a grid of other pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stdistill._slide.affine import Float64Array
from stdistill._slide.crops import kernel
from stdistill._support.arrays import Interpolation

Integers = npt.NDArray[np.int64]
SUPPORT = {"bilinear": 1, "bicubic": 2}
"""Of the filters, in pixels of the coarser of level and grid."""


def show_grid(
    pixels: Tensor,
    corner: tuple[int, int],
    scale: Float64Array,
    low: Integers,
    high: Integers,
    interpolation: Interpolation,
) -> Tensor:
    """Show a window (height, width, 3) uint8 in the pixels from `low` to `high`, as (x, y), of a grid over the slide.

    The grid begins at the corner of the slide, and its pixels are `scale` of those of the level; the window begins at
    `corner`. Filters are those of crops; beyond the window its border is repeated.

    Returns
    -------
    RGB (3, h, w), 0 to 255, float32.
    """
    shown = pixels
    for axis, dim in ((1, 0), (0, 1)):  # rows first: these are copied as a whole
        places, weights = _taps(low[axis], high[axis], scale[axis], interpolation)
        places = np.clip(places - corner[axis], 0, pixels.shape[dim] - 1)
        tap, *others = (_tap(shown, dim, place, weight) for place, weight in zip(places, weights, strict=True))
        for other in others:
            tap += other
        shown = tap
    return shown.permute(2, 0, 1).float().clamp(0, 255)


def _tap(shown: Tensor, dim: int, places: Integers, weights: npt.NDArray[np.float32]) -> Tensor:
    """Take the rows or columns at some places, each with its weight."""
    taken = shown.index_select(dim, torch.from_numpy(places).to(shown.device))
    if np.all(weights == 1):
        return taken
    return taken * torch.from_numpy(weights).to(shown.device).view((-1, 1, 1) if dim == 0 else (1, -1, 1))


def _taps(low: int, high: int, scale: float, interpolation: Interpolation) -> tuple[Integers, npt.NDArray[np.float32]]:
    """Return of which pixels of the level those of the grid are made (taps, n), and their weights."""
    if scale == 1:
        return np.arange(low, high)[None], np.ones((1, high - low), np.float32)
    reach = max(scale, 1.0)
    support = SUPPORT[interpolation] * reach
    centers = (np.arange(low, high) + 0.5) * scale
    places = np.ceil(centers - support - 0.5).astype(np.int64) + np.arange(int(2 * support) + 1)[:, None]
    weights = kernel(np.abs(places + 0.5 - centers) / reach, interpolation)
    return places, (weights / weights.sum(axis=0)).astype(np.float32)
