"""How another laboratory and another scanner would show a slide: stain, light, sharpness, compression."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import qmc

from stdistill._slide.pyramid import SlideLevel
from stdistill._slide.stain import RUIFROK, stain_vectors
from stdistill._slide.windows import sample_squares
from stdistill._support.arrays import Float64s, Floats, Pixels

LOOKS = 3
"""Version of the looks, by which stores of others are told: to be raised when they are drawn or shown differently."""
N_SQUARES = 16
EVERY = 4
"""Stain is estimated from every so many pixels, along x and y, of some squares around cells."""
LEAST_APART = 0.1
"""Sine of the angle between two stains."""
HUE = 0.12
"""Standard deviation of the entries of a stain vector, which is of length 1."""
STRENGTH = 0.4
"""Of the logarithm of how much of a stain there is."""
CONTRAST, TINT = 0.5, 0.14
"""Largest logarithm of the exponent of the light that passes: of all colours together, and of each."""
WHITE = (220.0, 248.0)
"""Lowest and highest brightness of the light."""
SHRINKAGE = 2.0
"""Most times that the slide may have been scanned coarser."""
SHARE_SHRUNK = 0.6
"""Of the looks; the others are blurred."""
BLUR_UM = 0.6
"""Largest standard deviation of the blur."""
JPEG_QUALITY = (60, 95)
DRAWN = (6, 2, 4, 4, 1)
"""How many numbers are drawn for the colours of the stains, their strengths, the exponents of the light, its colour,
and the compression."""
WITHIN = (1e-3, 1 - 1e-3)
"""Quantiles, within which normal distributions are finite."""
BAND_PX = 256
"""Rows that are stained at once."""


@dataclass(frozen=True)
class Look:
    """What becomes of the pixels of a slide."""

    glass: Float64s
    """(3,), the colour of its glass."""
    mixing: Float64s
    """(3, 3), from its optical densities to those of the look."""
    white: Float64s
    """(3,), the colour of glass in the look."""
    shrinkage: float
    """How many times coarser it is scanned; 1 for as it is."""
    blur_px: float
    """Standard deviation."""
    quality: int
    """Of the JPEG."""

    def show(self, pixels: Pixels) -> Pixels:
        """Show pixels (3, height, width); where they are scanned coarser, as fewer.

        The JPEG is of what was scanned, and whoever reads the look resamples it as a slide: enlarged here and then
        compressed, it would have fine details that no coarse slide has.
        """
        from PIL import Image
        from scipy.ndimage import gaussian_filter

        rgb = np.moveaxis(pixels, 0, -1)
        shown = np.empty_like(rgb)
        for top in range(0, len(rgb), BAND_PX):  # as floating point numbers a large chunk would fill the memory
            shown[top : top + BAND_PX] = self._stain(rgb[top : top + BAND_PX])
        if self.blur_px:
            shown = gaussian_filter(shown, (self.blur_px, self.blur_px, 0))
        image = Image.fromarray(shown)
        if self.shrinkage > 1:
            width, height = (self.scanned_px(side) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BOX)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=self.quality)
        return np.ascontiguousarray(np.moveaxis(np.asarray(Image.open(file)), -1, 0))

    def scanned_px(self, side: int) -> int:
        """How many pixels there are of so many."""
        return max(1, round(side / self.shrinkage))

    def _stain(self, rgb: Pixels) -> Pixels:
        density = -np.log(np.maximum(rgb, 1) / self.glass.astype(np.float32)) @ self.mixing.astype(np.float32)
        light = self.white.astype(np.float32) * np.exp(-density)
        stained: Pixels = np.rint(np.clip(light, 0, 255)).astype(np.uint8)
        return stained


def draw_look(vectors: Float64s, glass: npt.NDArray[np.uint8], mpp: float, number: int, seed: Sequence[int]) -> Look:
    """Draw a look for a slide whose stains absorb `vectors` (2, 3) on `glass` (3,), at `mpp` µm per pixel.

    Stains are unmixed into haematoxylin, eosin and what is left, and mixed with other colours and strengths: Tellez et
    al. 2019 (Med Image Anal 58) found that this, with other light and blur, carries networks to other laboratories.
    How much of each is our choice (docs/concepts/transfer).

    Looks are few, so that they are spread (Sobol 1967) where independent ones would leave gaps: the sharpness of look
    1, 2, … is 0, 1/2, 3/4, 1/4, … for every slide, whose first look is the coarsest there is; all else depends on the
    `seed`, too.
    """
    sharpness = float(_point(number, qmc.Sobol(1, scramble=False))[0])
    quantiles = _point(number, qmc.Sobol(sum(DRAWN), seed=np.random.default_rng(seed)))
    colors, strengths, exponents, light, (quality,) = np.split(np.clip(quantiles, *WITHIN), np.cumsum(DRAWN)[:-1])
    others = vectors + HUE * ndtri(colors).reshape(vectors.shape)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    others *= np.exp(STRENGTH * ndtri(strengths))[:, None]
    exponent = np.exp(_between(-CONTRAST, CONTRAST, exponents[0]) + _between(-TINT, TINT, exponents[1:]))
    coarseness = 1 - sharpness / SHARE_SHRUNK  # below 0 it is blurred, the more the further below
    blur_um = BLUR_UM * (sharpness - SHARE_SHRUNK) / (1 - SHARE_SHRUNK)
    return Look(
        glass=glass.astype(np.float64),
        mixing=np.linalg.inv(_with_rest(vectors)) @ _with_rest(others) * exponent,
        white=_between(*WHITE, light[0]) + _between(-3, 3, light[1:]),
        shrinkage=SHRINKAGE**coarseness if coarseness > 0 else 1.0,
        blur_px=0.0 if coarseness > 0 else blur_um / mpp,
        quality=int(_between(*JPEG_QUALITY, quality)),
    )


def with_look(level: SlideLevel, places: Floats, glass: npt.NDArray[np.uint8], mpp: float, number: int) -> SlideLevel:
    """Return a level as seen with one of many looks, lazily, chunk by chunk; a coarser one, if it is scanned coarser.

    Parameters
    ----------
    level
        The level.
    places
        (n, 2), x and y in pixels of the level, around which there is tissue.
    glass
        Colour of the glass (3,).
    mpp
        µm per pixel of the full resolution.
    number
        Which look: the same number gives the same one of a slide.
    """
    squares = [square[::EVERY, ::EVERY] for square in sample_squares(level, places, N_SQUARES)]
    red, green, blue = glass.tolist()
    vectors = stain_vectors(squares, (red, green, blue)) if squares else None
    # Of one stain alone there are two vectors all the same, which would unmix nothing.
    is_told = vectors is not None and np.linalg.norm(np.cross(*vectors)) > LEAST_APART
    stains = vectors if vectors is not None and is_told else np.array(RUIFROK)
    mpp_of_level = mpp * float(level.factor.max())
    look = draw_look(stains, glass, mpp_of_level, number, level.shape)
    colors, *sides = level.pixels.chunks
    chunks = (colors, *(tuple(look.scanned_px(side) for side in along) for along in sides))
    shown = level.pixels.map_blocks(look.show, chunks=chunks, dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8))
    coarser = np.array(level.shape[::-1]) / shown.shape[:0:-1]
    return SlideLevel(shown, level.factor * coarser)


def _point(number: int, sequence: qmc.Sobol) -> Float64s:
    """Return a point of a sequence, the first of which has the number 1."""
    point: Float64s = sequence.random_base2((number - 1).bit_length())[number - 1]
    return point


def _between(low: float, high: float, quantile: Float64s) -> Float64s:
    """Return where `quantile` of the way from `low` to `high` is."""
    between: Float64s = low + (high - low) * quantile
    return between


def _with_rest(vectors: Float64s) -> Float64s:
    """Add a unit vector across both (2, 3), for what neither stain explains."""
    across = np.cross(*vectors)
    return np.vstack([vectors, across / np.linalg.norm(across)])
