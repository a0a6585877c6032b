"""Cuts crops out of a window on the device and resamples them, or resamples the window for all crops in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stdistill._slide.plan import CropPlan, Window
from stdistill._support.arrays import Float64s, Interpolation

SUPPORT = {"bilinear": 1, "bicubic": 2}
"""Of the filters, in pixels of the coarser of level and grid."""


class CropCutter:
    """The crops of one window.

    Parameters
    ----------
    pixels
        The window (height, width, 3) uint8, on the device.
    plan, window
        What it shows.
    """

    def __init__(self, pixels: Tensor, plan: CropPlan, window: Window) -> None:
        self.plan = plan
        width, height = plan.read_px
        row_px = pixels.shape[1]
        n_places = pixels.shape[0] * row_px - (height - 1) * row_px - (width - 1)
        # All rectangles of the size that is read, without a copy. A row of one is contiguous: copied at once.
        self.views = pixels.as_strided((n_places, height, 3 * width), (3, 3 * row_px, 1))
        boxes = plan.boxes[window.start : window.stop]
        corners = np.floor(boxes)
        self.fractions = boxes - corners
        x, y = (corners - (window.left, window.top)).astype(np.int64).T
        self.places = torch.from_numpy(y * row_px + x).to(pixels.device)

    def cut(self, part: slice) -> Tensor:
        """Cut crops (m, 3, height, width) uint8."""
        width, height = self.plan.read_px
        return self.views.index_select(0, self.places[part]).view(-1, height, width, 3).permute(0, 3, 1, 2)

    def images(self, crops: Tensor, part: slice, side: int, interpolation: Interpolation) -> Tensor:
        """Resample what :meth:`cut` gave for the same part, once: RGB (m, 3, side, side), 0 to 255, float32."""
        if np.all(self.plan.level.factor == 1) and self.plan.read_px == (side, side):
            return crops.float()
        by_column, by_row = (
            self._weights(axis, part, size, side, interpolation).to(crops.device)
            for axis, size in enumerate(self.plan.read_px)
        )
        narrow = torch.matmul(crops.float(), by_column[:, None].mT)
        return torch.matmul(by_row[:, None], narrow).clamp(0, 255)

    def _weights(self, axis: int, part: slice, n_in: int, n_out: int, interpolation: Interpolation) -> Tensor:
        """Weights (m, n_out, n_in) of each pixel that was read; crops that start alike share theirs."""
        starts, which = np.unique(self.fractions[part, axis], return_inverse=True)
        weights = resampling_weights(starts, float(self.plan.box_side[axis]), n_in, n_out, interpolation)
        return torch.from_numpy(weights if len(weights) == 1 else weights[which])


def resampling_weights(
    starts: Float64s, side: float, n_in: int, n_out: int, interpolation: Interpolation
) -> npt.NDArray[np.float32]:
    """Weights of an antialiased filter that shows the interval [start, start + side) of `n_in` pixels as `n_out`.

    The filters are those of Pillow. Pixels that lie only partly in the interval have no weight: a crop shows
    nothing of what lies outside it.

    Returns
    -------
    (m, n_out, n_in) for m starts; each row sums to 1.
    """
    scale = side / n_out
    reach = max(scale, 1.0)
    centers = starts[:, None, None] + (np.arange(n_out)[:, None] + 0.5) * scale
    pixels = np.arange(n_in)
    slack = 1e-6
    if scale < 1:  # filters of enlarged crops may reach no pixel that lies wholly in the interval: the last is repeated
        first, last = np.ceil(starts - slack), np.floor(starts + side + slack)
        centers = np.clip(centers, first[:, None, None], last[:, None, None])
    weights = _kernel(np.abs(pixels + 0.5 - centers) / reach, interpolation)
    whole = (pixels >= starts[:, None, None] - slack) & (pixels + 1 <= starts[:, None, None] + side + slack)
    weights = np.where(whole, weights, 0.0)
    normalised: npt.NDArray[np.float32] = (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)
    return normalised


def show_grid(
    pixels: Tensor,
    corner: tuple[int, int],
    scale: Float64s,
    low: npt.NDArray[np.int64],
    high: npt.NDArray[np.int64],
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


def _tap(shown: Tensor, dim: int, places: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]) -> Tensor:
    """Take the rows or columns at some places, each with its weight."""
    taken = shown.index_select(dim, torch.from_numpy(places).to(shown.device))
    if np.all(weights == 1):
        return taken
    return taken * torch.from_numpy(weights).to(shown.device).view((-1, 1, 1) if dim == 0 else (1, -1, 1))


def _taps(
    low: int, high: int, scale: float, interpolation: Interpolation
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return of which pixels of the level those of the grid are made (taps, n), and their weights."""
    if scale == 1:
        return np.arange(low, high)[None], np.ones((1, high - low), np.float32)
    reach = max(scale, 1.0)
    support = SUPPORT[interpolation] * reach
    centers = (np.arange(low, high) + 0.5) * scale
    places = np.ceil(centers - support - 0.5).astype(np.int64) + np.arange(int(2 * support) + 1)[:, None]
    weights = _kernel(np.abs(places + 0.5 - centers) / reach, interpolation)
    return places, (weights / weights.sum(axis=0)).astype(np.float32)


def _kernel(distance: Float64s, interpolation: Interpolation) -> Float64s:
    """Weigh what lies at a distance from the centre of a filter, in pixels of the coarser image."""
    if interpolation == "bilinear":
        return np.clip(1 - distance, 0, None)
    a = -0.5  # Keys 1981
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
