"""A whole slide at a coarse scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stdistill._slide.pyramid import SlideLevel, level_for
from stdistill._support.arrays import Float64s

OVERVIEW_MPP = 8.0
"""µm per pixel, about: 3,000² pixels show a slide of 25 mm."""
MIN_PX = 512
"""Small images are read finer, so that a side has so many pixels."""


@dataclass(frozen=True)
class Overview:
    """A whole slide, or all of it but a last row and column of pixels that are not complete."""

    pixels: npt.NDArray[np.float32]
    """Colours (height, width, 3), 0 to 255."""
    factor: Float64s
    """Pixels of the full resolution per pixel, along x and y."""
    mpp: float
    """µm per pixel."""


def read_overview(levels: list[SlideLevel], mpp: float) -> Overview:
    """Read a slide at about `OVERVIEW_MPP` from the smallest level that shows as much; a small one finer.

    Parameters
    ----------
    levels
        Of the slide.
    mpp
        µm per pixel of its full resolution.
    """
    import dask.array as da

    shrinkage = min(OVERVIEW_MPP / mpp, max(levels[0].shape) / MIN_PX)
    level = level_for(levels, shrinkage)
    n = round(shrinkage / float(level.factor.max()))
    n = max(1, min(n, *level.shape))
    pixels = level.pixels.astype(np.float32)
    means = da.coarsen(np.mean, pixels, {1: n, 2: n}, trim_excess=True).compute()
    factor = level.factor * n
    return Overview(np.ascontiguousarray(np.moveaxis(means, 0, -1)), factor, mpp * float(factor.max()))
