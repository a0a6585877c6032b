"""The levels of a pyramid, the one to read from, and when two figures of µm per pixel are of one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Float64s

MPP_TOLERANCE = 0.02
"""Images whose µm per pixel differ by a larger share show tissue at different scales."""
MAX_MPP_DISAGREEMENT = 0.05
"""Two figures for the resolution of one image may differ by this share."""


@dataclass(frozen=True)
class SlideLevel:
    """One level of a pyramid."""

    pixels: Any
    """Dask array (3, height, width) uint8, the colours in one chunk."""
    factor: Float64s
    """Pixels of the full resolution per pixel of this level, along x and y."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[2])


def level_for(levels: list[SlideLevel], shrinkage: float) -> SlideLevel:
    """Choose the smallest level from which crops that are shrunk so many times are still shrunk, not enlarged."""
    return [level for level in levels if level.factor.max() <= max(shrinkage, 1.0)][-1]


def shrink_factor(full: npt.NDArray[np.int64], size: npt.NDArray[np.int64]) -> Float64s:
    """How many times a level is smaller; whole where an incomplete last pixel was left out or added."""
    whole = np.rint(full / size)
    return np.where(np.abs(whole * size - full) < whole, whole, full / size)


def is_same_mpp(one: float, other: float) -> bool:
    """Whether pixels are of one size: that of native pixels follows from the alignment, and is never equal twice."""
    return math.isclose(one, other, rel_tol=MPP_TOLERANCE)
