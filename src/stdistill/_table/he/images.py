"""The H&E of a SpatialData: its levels, with the stain as it is or brought to another."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from stdistill._slide.pyramid import SlideLevel, shrink_factor


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
        levels.append(SlideLevel(pixels, shrink_factor(size, np.array([array.sizes["x"], array.sizes["y"]]))))
    return levels


def _levels(image: Any) -> list[Any]:
    """List the arrays of an image element, the full resolution first."""
    from spatialdata import get_pyramid_levels
    from xarray import DataTree

    return list(get_pyramid_levels(image)) if isinstance(image, DataTree) else [image]
