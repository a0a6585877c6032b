"""Small levels for slides that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stdistill._formats.slides.level import Level
from stdistill._support.arrays import Pixels

OVERVIEW_PX = 2048
"""A slide has a level that is no larger than this, its own or one that is computed."""
STEP = 4
"""Pixels of a level per pixel of one that is computed from it."""
BAND_PX = 4_000_000
"""About so many pixels are decoded at once to compute others from them."""


@dataclass(frozen=True)
class ReducedLevel(Level):
    """A level that is computed from a larger one when it is asked for: the mean of `STEP`² pixels each."""

    source: Level
    segment = (256, 256)

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """That of the source, an incomplete last pixel included."""
        height, width = (-(-n // STEP) for n in self.source.shape[1:])
        return 3, height, width

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """Compute a rectangle, band by band."""
        out = np.empty((bottom - top, right - left, 3), np.uint8)
        _, full_height, full_width = self.source.shape
        first, last = left * STEP, min(right * STEP, full_width)
        unit = self.source.segment[0]  # tiles are decoded whole: a band that ends within them decodes them again
        n_rows = max(unit, BAND_PX // max(1, last - first) // unit * unit) // STEP or 1
        for start in range(top, bottom, n_rows):
            stop = min(start + n_rows, bottom)
            pixels = self.source.read(start * STEP, min(stop * STEP, full_height), first, last)
            out[start - top : stop - top] = _means(pixels, stop - start, right - left)
        return out


def with_small_levels(levels: Sequence[Level]) -> list[Level]:
    """Add levels to those of a slide until one is no larger than `OVERVIEW_PX`."""
    levels = list(levels)
    while max(levels[-1].shape) > OVERVIEW_PX:
        levels.append(ReducedLevel(levels[-1]))
    return levels


def _means(pixels: Pixels, height: int, width: int) -> Pixels:
    """Average blocks; those at the end, which may be incomplete, as if their last pixels were repeated."""
    missing = height * STEP - pixels.shape[0], width * STEP - pixels.shape[1]
    if any(missing):
        pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    total = np.zeros((height, width, 3), np.uint16)
    for row in range(STEP):
        for column in range(STEP):
            total += pixels[row::STEP, column::STEP]
    means: Pixels = ((total + STEP**2 // 2) // STEP**2).astype(np.uint8)
    return means
