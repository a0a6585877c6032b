"""Whether the pixels of an image are those of an H&E: some of them are looked at."""

from __future__ import annotations

import numpy as np

from stdistill._formats.slides.level import Level
from stdistill._slide.glass import GLASS_BRIGHTNESS, MIN_GLASS_SHARE, check_colors
from stdistill._support.arrays import Mask, Pixels
from stdistill._support.warn import warn

SAMPLE_PX = 4_000_000
"""About so many pixels are decoded to look at an image."""
MAX_SEGMENTS = 64
"""Of no more tiles or strips."""
MAX_TINT = 40
"""Glass has colours that differ by no more than this (of 255)."""
DARK = 50
"""What is no brighter than this in any colour is dark."""
FLUORESCENCE = (0.001, 0.5, 0.005)
"""At most this share near-neutral and bright, at least this dark, at least this neither: as fluorescence is."""


def sample(level: Level) -> Pixels:
    """Decode some tiles of a level, chosen at random, always the same ones: every second pixel (3, n) both ways."""
    height, width = (min(one, full) for one, full in zip(level.segment, level.shape[1:], strict=True))
    rows, columns = (-(-full // one) for full, one in zip(level.shape[1:], (height, width), strict=True))
    n = max(1, min(rows * columns, MAX_SEGMENTS, SAMPLE_PX // (height * width)))
    chosen = np.random.default_rng(0).choice(rows * columns, n, replace=False, shuffle=False)
    parts = []
    for row, column in zip(*np.divmod(np.sort(chosen), columns), strict=True):
        top, left = int(row) * height, int(column) * width
        parts.append(level[:, top : top + height : 2, left : left + width : 2].reshape(3, -1))
    return np.concatenate(parts, axis=1)


def check_content(pixels: Pixels, name: str) -> None:
    """Refuse fluorescence and pictures without colours, and warn where no glass is seen.

    Parameters
    ----------
    pixels
        Some of the image (3, n).
    name
        Of the file.

    Raises
    ------
    ValueError
        When the image is dark as fluorescence is, or grey.
    """
    glass = float(_is_glass(pixels).mean())
    dark = float((pixels.max(axis=0) <= DARK).mean())
    most_glass, least_dark, least_signal = FLUORESCENCE
    if glass <= most_glass and dark >= least_dark and 1 - glass - dark >= least_signal:
        msg = (
            f"{name} is no H&E: {dark:.0%} of its pixels are dark and none show bright glass, as in fluorescence. "
            "Give the H&E; if this is one with a wide black border, crop it."
        )
        raise ValueError(msg)
    check_colors(pixels, name)
    if glass < MIN_GLASS_SHARE:
        warn(
            f"{name} shows no glass: {glass:.1%} of its pixels are bright and nearly grey. That is expected only where "
            "tissue fills the image; otherwise its colours are not those of an H&E in transmitted light."
        )


def _is_glass(pixels: Pixels) -> Mask:
    least, most = pixels.min(axis=0), pixels.max(axis=0)
    flags: Mask = (least >= GLASS_BRIGHTNESS) & (most - least <= MAX_TINT)
    return flags
