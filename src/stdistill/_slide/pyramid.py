"""The pyramid of an H&E in a SpatialData: its levels, the one to read from, and the colour of its glass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from stdistill._slide.affine import Float64Array

GLASS_BRIGHTNESS = 200
"""Glass is at least this bright (of 255) in every colour."""
MIN_GLASS_SHARE = 0.01
"""A slide that shows less glass than this does not tell its colour; white is taken."""
OVERVIEW_PX = 4096
"""Glass is looked for on a level no larger than this."""
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class SlideLevel:
    """One level of a pyramid."""

    pixels: Any
    """Dask array (3, height, width) uint8, the colours in one chunk."""
    factor: Float64Array
    """Pixels of the full resolution per pixel of this level, along x and y."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[2])


def is_rgb(image: Any) -> bool:
    """Whether an image element is RGB with 8 bits, as an H&E is."""
    full = _levels(image)[0]
    return bool(full.dtype == np.uint8 and full.sizes.get("c") in (3, 4))


def slide_levels(image: Any, name: str) -> list[SlideLevel]:
    """List the levels of an image element, the full resolution first.

    Raises
    ------
    ValueError
        When it is not RGB with 8 bits.
    """
    arrays = _levels(image)
    full = arrays[0]
    if not is_rgb(image):
        msg = (
            f"The image {name!r} has {full.sizes.get('c')} channels of type {full.dtype}; an H&E is expected as RGB of "
            "type uint8. Name the H&E with image_key=."
        )
        raise ValueError(msg)
    size = np.array([full.sizes["x"], full.sizes["y"]])
    levels = []
    for array in arrays:
        pixels = da.asarray(array.transpose("c", "y", "x").data)[:3].rechunk({0: -1})
        levels.append(SlideLevel(pixels, _factor(size, np.array([array.sizes["x"], array.sizes["y"]]))))
    return levels


def level_for(levels: list[SlideLevel], shrinkage: float) -> SlideLevel:
    """Choose the smallest level from which crops that are shrunk so many times are still shrunk, not enlarged."""
    return [level for level in levels if level.factor.max() <= max(shrinkage, 1.0)][-1]


def background_color(levels: list[SlideLevel]) -> npt.NDArray[np.uint8]:
    """Estimate the colour (3,) of glass: the median of the bright pixels of a small level, else white."""
    small = [level for level in levels if max(level.shape) <= OVERVIEW_PX]
    if small:
        overview = small[0].pixels.compute().reshape(3, -1)
        glass = overview[:, overview.min(axis=0) >= GLASS_BRIGHTNESS]
        if glass.shape[1] >= MIN_GLASS_SHARE * overview.shape[1]:
            color: npt.NDArray[np.uint8] = np.median(glass, axis=1).astype(np.uint8)
            return color
    return np.array(WHITE, dtype=np.uint8)


def _levels(image: Any) -> list[Any]:
    """List the arrays of an image element, the full resolution first."""
    from spatialdata import get_pyramid_levels
    from xarray import DataTree

    return list(get_pyramid_levels(image)) if isinstance(image, DataTree) else [image]


def _factor(full: npt.NDArray[np.int64], size: npt.NDArray[np.int64]) -> Float64Array:
    """How many times a level is smaller; whole where an incomplete last pixel was left out or added."""
    whole = np.rint(full / size)
    return np.where(np.abs(whole * size - full) < whole, whole, full / size)
