"""Where tissue is on a slide, and where ink and borders are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stdistill._slide.glass import DARKEST, Color, glass_of_image, is_black
from stdistill._slide.overview import Overview
from stdistill._support.arrays import Float64s, Mask

SMOOTH_UM = 8.0
"""Standard deviation over which absorption is smoothed."""
LIMITS = (0.07, 0.2)
"""Optical density (natural logarithm) that is glass at most, and that is never glass: 7 and 18 % absorbed."""
INK_DENSITY = 0.3
"""What absorbs less is not asked whether it is ink: its colour is uncertain."""
MIN_INK_UM2 = 20_000.0
"""Of a piece of ink or border; smaller ones are pigment or dirt on the tissue."""
MIN_PIECE_UM2 = 10_000.0
"""Of a piece of tissue, and of a hole in it that is kept; a fat cell is smaller."""
MIN_PIECE_SHARE = 0.01
"""Of the image, for small images."""
SAMPLE = 1_000_000
"""About so many pixels decide about the threshold."""


class NothingSeenError(ValueError):
    """There is no tissue on an image, or no nucleus: a fault of the slide, if it is any."""


@dataclass(frozen=True)
class TissueMap:
    """What is where on an overview; masks are (height, width)."""

    tissue: Mask
    ink: Mask
    """Pen, and black borders or gaps."""
    density: npt.NDArray[np.float32]
    """Optical density (height, width, 3) against the glass."""
    threshold: float
    """Optical density from which on pixels are tissue."""
    glass: Color


def map_tissue(overview: Overview) -> TissueMap:
    """Tell tissue from glass and ink.

    Tissue is what absorbs more than the threshold of Li and Lee (1993), which lies lower than Otsu's and keeps pale
    tissue; it is held within `LIMITS`, so that a blank slide has no tissue and one without glass is all tissue.
    """
    from scipy.ndimage import binary_dilation, gaussian_filter
    from skimage.filters import threshold_li

    glass = glass_of_image(np.moveaxis(overview.pixels, -1, 0).astype(np.uint8))
    density = optical_density(overview.pixels, glass)
    ink = without_small(is_ink(density), MIN_INK_UM2 / overview.mpp**2) | is_black(overview.pixels)
    ink = binary_dilation(ink, np.ones((3, 3)), iterations=2)  # pixels at its edge show glass, too
    weight = (~ink).astype(np.float32)  # ink must not darken the glass beside it
    sigma = SMOOTH_UM / overview.mpp
    absorbed = gaussian_filter(density.max(axis=-1) * weight, sigma) / np.maximum(gaussian_filter(weight, sigma), 1e-3)
    seen = absorbed[~ink]
    sample = seen[:: max(1, len(seen) // SAMPLE)]
    varies = sample.size > 0 and sample.min() < sample.max()
    threshold = min(max(float(threshold_li(sample)), LIMITS[0]), LIMITS[1]) if varies else LIMITS[1]
    smallest = min(MIN_PIECE_UM2 / overview.mpp**2, MIN_PIECE_SHARE * absorbed.size)
    tissue = without_small((absorbed > threshold) & ~ink, smallest)
    tissue = ~without_small(~tissue, smallest)
    return TissueMap(tissue & ~ink, ink, density, threshold, glass)


def optical_density(pixels: npt.NDArray[np.floating], glass: Color) -> npt.NDArray[np.float32]:
    """Natural logarithm of the glass over the colours (…, 3), 0 where these are brighter."""
    light = np.clip(pixels, DARKEST, None).astype(np.float32)
    density: npt.NDArray[np.float32] = np.clip(np.log(np.asarray(glass, np.float32) / light), 0, None)
    return density


def is_ink(density: npt.NDArray[np.float32]) -> Mask:
    """Tell what no mixture of haematoxylin and eosin is, by how it absorbs red, green and blue (…, 3).

    By their vectors (Ruifrok and Johnston 2001) a mixture absorbs green most, red up to as much, and blue less than
    half as much; scanners and stains vary about that. Brown, as of melanin, is in none of the ranges.
    """
    red, green, blue = np.moveaxis(density, -1, 0)
    least, most = density.min(axis=-1), density.max(axis=-1)
    is_grey = least > 0.85 * most  # black ink, borders, shadows of the coverslip
    is_green = green < 0.9 * np.minimum(red, blue)
    is_blue = red > 1.3 * green
    is_red = (blue > 0.8 * green) & (red < 0.35 * green)
    flags: Mask = (most > INK_DENSITY) & (is_grey | is_green | is_blue | is_red)
    return flags


def outline(mask: Mask, factor: Float64s) -> npt.NDArray[np.object_]:
    """Draw polygons with holes around the pieces of a mask, the largest first, in pixels of the full resolution."""
    import shapely
    from skimage.measure import find_contours

    rings = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    if not rings:
        return np.empty(0, dtype=object)
    lines = shapely.multilinestrings([shapely.linestrings((ring[:, ::-1] - 0.5) * factor) for ring in rings])
    pieces = shapely.get_parts(shapely.build_area(lines))
    # By less than what lies between two of them: none can come to overlap another.
    pieces = shapely.simplify(pieces, float(factor.mean()) / 4)
    ordered: npt.NDArray[np.object_] = pieces[np.argsort(-shapely.area(pieces), kind="stable")]
    return ordered


def without_small(mask: Mask, n_px: float) -> Mask:
    """Remove connected pieces of fewer pixels."""
    from skimage.morphology import remove_small_objects

    kept: Mask = remove_small_objects(mask, max_size=math.ceil(n_px) - 1)
    return kept
