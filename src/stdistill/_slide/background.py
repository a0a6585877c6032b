"""How much of the crops of a slide is background."""

from __future__ import annotations

import numpy as np

from stdistill._slide.glass import Color
from stdistill._slide.plan import Slide
from stdistill._slide.windows import read_windows
from stdistill._support.arrays import Float64s, Mask, Pixels

MAX_DENSITY = 0.15
"""Optical density (natural logarithm) that glass has at most in every colour: brighter than 0.86 of the white point."""


def is_background(pixels: Pixels, white: Color, rgb_threshold: float | None = None) -> Mask:
    """Tell which pixels (…, 3) are background.

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
        return np.asarray(pixels.sum(axis=-1, dtype=np.uint16) > 3 * rgb_threshold)
    # Whole numbers above the limit are those above its floor, which is compared without a copy of the pixels.
    limits = np.floor(np.asarray(white) * np.exp(-MAX_DENSITY)).astype(np.uint8)
    return np.asarray((pixels > limits).all(axis=-1))


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
