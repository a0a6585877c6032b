"""The H&E of a SpatialData: its levels, with the stain as it is or brought to another."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from stdistill._slide.glass import WHITE, over_glass
from stdistill._slide.pyramid import SlideLevel, shrink_factor
from stdistill._slide.windows import hash_image
from stdistill._support.checks import check_key

if TYPE_CHECKING:
    from spatialdata import SpatialData

ALPHA_NAMES = ("a", "alpha", "opacity", "3")
"""What a fourth channel is called that is no further marker: 3 where channels are numbered."""


PRIMARIES = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2}
"""What channels of colours are called."""


def get_image(sdata: SpatialData, key: str) -> Any:
    """Return an image element, which must be there."""
    hint = "Read one with sd.pp.read_xenium(..., he_image=...), or name yours with image_key=."
    check_key(key, sdata.images, "an image of the SpatialData", argument="image_key", hint=hint)
    return sdata.images[key]


def image_shape(image: Any) -> tuple[int, int]:
    """Height and width of an image element, at full resolution."""
    level = full_resolution(image)
    return int(level.sizes["y"]), int(level.sizes["x"])


def full_resolution(element: Any) -> Any:
    """Return the array of an element of an image, or of labels, at full resolution."""
    from spatialdata import get_pyramid_levels
    from xarray import DataTree

    return get_pyramid_levels(element, n=0) if isinstance(element, DataTree) else element


def is_rgb(image: Any) -> bool:
    """Whether an image element is RGB with 8 bits, as an H&E is, perhaps with opacity."""
    full = full_resolution(image)
    has_channels = full.sizes.get("c") == 3 or _has_alpha(full)
    return bool(full.dtype == np.uint8 and has_channels and _rgb_channels(full) is not None)


def _rgb_channels(level: Any) -> list[int] | None:
    """Tell which channels are red, green and blue: by name, or in turn where they are numbered; `None`: markers."""
    names = _channel_names(level)[:3]
    order = [PRIMARIES.get(name) for name in names]
    if set(order) == {0, 1, 2}:
        return [order.index(color) for color in range(3)]
    are_numbered = len({re.sub(r"[\W\d_]+", "", name) for name in names}) <= 1
    return [0, 1, 2] if are_numbered else None


def _channel_names(level: Any) -> list[str]:
    return [str(name).strip().lower() for name in level.coords["c"].values] if "c" in level.coords else []


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
    full = full_resolution(image)
    if not is_rgb(image):
        is_it = (
            f'say so with sdata.set_channel_names({name!r}, ["r", "g", "b"])'
            if full.dtype == np.uint8
            else "bring its values to 0 … 255 (those of 0 … 1 times 255), round them, and put it in its place: "
            f'Image2DModel.parse(pixels.astype("uint8"), dims=("c", "y", "x"), c_coords=["r", "g", "b"], '
            f"transformations=get_transformation(sdata[{name!r}], get_all=True))"
        )
        msg = (
            f"The image {name!r} has {full.sizes.get('c')} channels of type {full.dtype}{_named(full)}; an H&E is "
            f"expected as RGB of type uint8. Name the H&E with image_key=; if this is it, {is_it}."
        )
        raise ValueError(msg)
    size = np.array([full.sizes["x"], full.sizes["y"]])
    rgb = _rgb_channels(full)
    levels = []
    for array in _levels(image):
        pixels = da.asarray(array.transpose("c", "y", "x").data)
        if len(pixels.chunks[0]) > 1:
            pixels = pixels.rechunk({0: -1})
        if rgb not in (None, [0, 1, 2]):
            pixels = pixels[[*rgb, *range(3, len(pixels))]]
        if len(pixels) == 4:
            pixels = pixels.map_blocks(over_white, chunks=((3,), *pixels.chunks[1:]), dtype=np.uint8)
        levels.append(SlideLevel(pixels, shrink_factor(size, np.array([array.sizes["x"], array.sizes["y"]]))))
    return levels


def _named(level: Any) -> str:
    names = _channel_names(level)
    return f", named {', '.join(names)}" if names else ""


def over_white(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Lay RGB with opacity (4, height, width) over white, as glass is where nothing was scanned."""
    return np.moveaxis(over_glass(np.moveaxis(rgba[:3], 0, -1), rgba[3], WHITE), -1, 0)


def mark_images(sdata: SpatialData, image_keys: Iterable[str]) -> str | None:
    """Tell the images from others, as far as they show more than one colour: a hash each, joined by ``+``."""
    marks = [hash_image(slide_levels(sdata.images[key], key)[0]) for key in image_keys]
    return "+".join(dict.fromkeys(filter(None, marks))) or None


def _levels(image: Any) -> list[Any]:
    """List the arrays of an image element, the full resolution first."""
    from spatialdata import get_pyramid_levels
    from xarray import DataTree

    return list(get_pyramid_levels(image)) if isinstance(image, DataTree) else [image]
