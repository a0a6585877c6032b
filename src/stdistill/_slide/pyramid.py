"""The levels of a pyramid, and the one to read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Float64s


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
