"""What is glass on an H&E, what is stained tissue, and how much of its crops is background."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stdistill._slide.plan import Slide
from stdistill._slide.pyramid import SlideLevel
from stdistill._slide.windows import read_windows
from stdistill._support.arrays import Float64s, Floats, Mask, Pixels

GLASS_BRIGHTNESS = 200
"""Glass is at least this bright (of 255) in every colour."""
MIN_GLASS_SHARE = 0.01
"""A slide that shows less glass than this does not tell its colour; white is taken."""
OVERVIEW_PX = 4096
"""Glass is looked for on a level no larger than this."""
DARKEST = 8
"""Grey level (of 255) below which all counts as equally dark. What is so in every colour was never scanned: a program
filled it in, as beside an image that was turned; no stain absorbs so much of all light."""
GLASS_DARKNESS = 40
"""Glass is never darker than this (of 255), also where Otsu's threshold parts dark from bright tissue."""
MAX_DENSITY = 0.15
"""Optical density (natural logarithm) that glass has at most in every colour: brighter than 0.86 of the white point."""
BLOCK_PX = 16
"""Side of the blocks in which glass is even: no less than 8 µm where pixels are of 0.5 µm, to hold a nucleus."""
EVENNESS = 0.02
"""Glass varies by no more than this within a block (standard deviation over mean, of every colour): noise and
compression. Pale stroma is as bright, and has fibres and nuclei; its hue is that of glass under a haze of eosin."""
GREY = 8
"""Colours of a pixel that differ by no more than this (of 255) are grey, also where JPEG rounded them."""
MIN_TONES = 0.005
"""Share of pixels between glass and black, which a stain would colour."""
WHITE = (255, 255, 255)
Color = tuple[int, int, int]


def background_color(levels: list[SlideLevel]) -> npt.NDArray[np.uint8]:
    """Estimate the colour (3,) of glass as `glass_of_image` does, on a small level; white where there is none."""
    small = [level for level in levels if max(level.shape) <= OVERVIEW_PX]
    color = glass_of_image(small[0].pixels.compute()) if small else WHITE
    return np.array(color, dtype=np.uint8)


def small_image(levels: list[SlideLevel]) -> npt.NDArray[np.uint8]:
    """Read a slide (3, height, width) with a side of at most `OVERVIEW_PX`: such a level, or the last thinned out."""
    small = [level for level in levels if max(level.shape) <= OVERVIEW_PX] or levels[-1:]
    step = -(-max(small[0].shape) // OVERVIEW_PX)  # an image without a small level is not taken into memory whole
    pixels: npt.NDArray[np.uint8] = small[0].pixels[:, ::step, ::step].compute()
    return pixels


def check_colors(pixels: Pixels, name: str) -> None:
    """Raise when pixels (3, n) that would show a stain are all grey."""
    least, most = pixels.min(axis=0), pixels.max(axis=0)
    tones = (least > GLASS_DARKNESS) & (least < GLASS_BRIGHTNESS)
    if tones.mean() >= MIN_TONES and (most - least)[tones].max() <= GREY:
        msg = (
            f"{name} is no H&E in colour: red, green and blue are the same in all of its pixels, as in a picture that "
            "was saved in grey. Give the H&E as it was scanned."
        )
        raise ValueError(msg)


def glass_color(pixels: npt.NDArray[np.uint8]) -> Color:
    """Estimate the colour of glass among pixels (3, n): the median of the bright ones, white where these are few."""
    glass = pixels[:, pixels.min(axis=0) >= GLASS_BRIGHTNESS]
    if glass.shape[1] < MIN_GLASS_SHARE * pixels.shape[1] or not glass.size:
        return WHITE
    red, green, blue = np.median(glass, axis=1).astype(int).tolist()
    return red, green, blue


def glass_of_image(pixels: npt.NDArray[np.uint8]) -> Color:
    """Estimate the colour of glass on an image (3, height, width): that of its blocks which are bright and even.

    White where these are few, as on a field within tissue.
    """
    _, height, width = pixels.shape
    rows, columns = height // BLOCK_PX, width // BLOCK_PX
    blocks = pixels[:, : rows * BLOCK_PX, : columns * BLOCK_PX].reshape(3, rows, BLOCK_PX, columns, BLOCK_PX)
    mean = blocks.mean(axis=(2, 4), dtype=np.float32)
    variance = np.square(blocks, dtype=np.uint16).mean(axis=(2, 4), dtype=np.float32) - mean**2
    is_even = (variance <= (EVENNESS * mean) ** 2).all(axis=0)
    return glass_color((mean * is_even + 0.5).astype(np.uint8).reshape(3, -1))


def over_glass(
    rgb: npt.NDArray[np.uint8], opacity: npt.NDArray[np.uint8], glass: Color, *, is_multiplied: bool = False
) -> npt.NDArray[np.uint8]:
    """Lay colours (height, width, 3) of some opacity (height, width) over the colour of glass.

    `is_multiplied` says that colours are stored multiplied by their opacity.
    """
    if opacity.min(initial=255) == 255:
        return rgb
    share = (opacity.astype(np.float32) / 255)[..., None]
    front = rgb if is_multiplied else rgb * share
    return np.clip(front + np.asarray(glass, np.float32) * (1 - share) + 0.5, 0, 255).astype(np.uint8)


def share_on_tissue(overview: npt.NDArray[np.uint8], places: Floats) -> float:
    """Return the share of some places (n, 2), as (x, y) from 0 to 1 on the image, that lie on stained pixels.

    Parameters
    ----------
    overview
        The whole image, small: (3, height, width).
    places
        On the image, all of them.
    """
    tissue = stained(overview)
    x, y = (places * overview.shape[:0:-1]).astype(np.int64).T
    return float(tissue[y, x].mean())


def is_black(pixels: npt.NDArray[Any], axis: int = -1) -> Mask:
    """Tell which pixels were filled in where nothing was scanned, of colours along an axis."""
    red, green, blue = np.moveaxis(pixels, axis, 0)  # not along them, which is slow
    mask: Mask = np.maximum(np.maximum(red, green), blue) <= DARKEST
    return mask


def stained(overview: npt.NDArray[np.uint8]) -> Mask:
    """Tell the stained pixels of an overview (3, height, width), by Otsu's threshold on the darkest colour."""
    from skimage.filters import threshold_otsu

    darkness = 255 - overview.min(axis=0)
    mask: Mask = (darkness > min(threshold_otsu(darkness), GLASS_DARKNESS)) & ~is_black(overview, axis=0)
    return mask


def is_background(pixels: Pixels, white: Color, rgb_threshold: float | None = None) -> Mask:
    """Tell which pixels (…, 3) are background: glass, or black that was filled in.

    Parameters
    ----------
    pixels
        Colours.
    white
        White point of the slide.
    rgb_threshold
        Mean of the colours above which a pixel is background, instead of comparing it with the white point.
    """
    if rgb_threshold is not None:
        return np.asarray(pixels.sum(axis=-1, dtype=np.uint16) > 3 * rgb_threshold) | is_black(pixels)
    # Whole numbers above the limit are those above its floor, which is compared without a copy of the pixels.
    limits = np.floor(np.asarray(white) * np.exp(-MAX_DENSITY)).astype(np.uint8)
    return np.asarray((pixels > limits).all(axis=-1)) | is_black(pixels)


def background_shares(slide: Slide, white: Color, rgb_threshold: float | None = None) -> Float64s:
    """Return the share (n,) of each crop that is background, in the order of the plan.

    Windows are read one after the other. The sum over each crop is that of four corners of a table of sums (Crow 1984),
    however much crops overlap. Of a smaller level crops begin and end at whole pixels.
    """
    plan = slide.plan
    width, height = np.maximum(np.rint(plan.box_side), 1).astype(int)
    shares = np.empty(len(plan.order))
    for window, pixels in zip(plan.windows, read_windows(plan.level, plan.windows, slide.background), strict=True):
        sums = np.zeros((window.height + 1, window.width + 1), dtype=np.int32)
        np.cumsum(is_background(pixels, white, rgb_threshold), axis=0, out=sums[1:, 1:])
        np.cumsum(sums, axis=1, out=sums)
        corners = np.rint(plan.boxes[window.start : window.stop] - (window.left, window.top)).astype(int)
        left, top = np.minimum(corners, (window.width - width, window.height - height)).T
        inside = sums[top + height, left + width] - sums[top, left + width] - sums[top + height, left] + sums[top, left]
        shares[window.start : window.stop] = inside / (width * height)
    return shares
