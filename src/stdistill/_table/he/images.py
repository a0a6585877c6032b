"""The H&E of a SpatialData: its levels, with the stain as it is or brought to another."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from stdistill._slide.glass import WHITE, over_glass
from stdistill._slide.pyramid import SlideLevel, shrink_factor

ALPHA_NAMES = ("a", "alpha", "opacity", "3")
"""What a fourth channel is called that is no further marker: 3 where channels are numbered."""


def is_rgb(image: Any) -> bool:
    """Whether an image element is RGB with 8 bits, as an H&E is, perhaps with opacity."""
    full = _levels(image)[0]
    return bool(full.dtype == np.uint8 and (full.sizes.get("c") == 3 or _has_alpha(full)))


def _has_alpha(level: Any) -> bool:
    if level.sizes.get("c") != 4:
        return False
    return "c" not in level.coords or str(level.coords["c"].values[3]).lower() in ALPHA_NAMES


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
        pixels = da.asarray(array.transpose("c", "y", "x").data)
        if len(pixels.chunks[0]) > 1:
            pixels = pixels.rechunk({0: -1})
        if len(pixels) == 4:
            pixels = pixels.map_blocks(over_white, chunks=((3,), *pixels.chunks[1:]), dtype=np.uint8)
        levels.append(SlideLevel(pixels, shrink_factor(size, np.array([array.sizes["x"], array.sizes["y"]]))))
    return levels


def over_white(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Lay RGB with opacity (4, height, width) over white, as glass is where nothing was scanned."""
    return np.moveaxis(over_glass(np.moveaxis(rgba[:3], 0, -1), rgba[3], WHITE), -1, 0)


def _levels(image: Any) -> list[Any]:
    """List the arrays of an image element, the full resolution first."""
    from spatialdata import get_pyramid_levels
    from xarray import DataTree

    return list(get_pyramid_levels(image)) if isinstance(image, DataTree) else [image]
