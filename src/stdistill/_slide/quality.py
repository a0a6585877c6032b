"""What is wrong with a slide: measures of small fields of it, and of its overview."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stdistill._slide.glass import GLASS_DARKNESS, Color
from stdistill._slide.overview import Overview
from stdistill._slide.plan import Window
from stdistill._slide.pyramid import SlideLevel
from stdistill._slide.tissue import SMOOTH_UM, TissueMap, without_small
from stdistill._slide.windows import read_windows
from stdistill._support.arrays import Float64s, Mask, Pixels
from stdistill._support.cpus import n_cpus

FIELD_MPP = 0.5
"""Fields are looked at with so many µm per pixel, or the next finer."""
FIELD_PX = 256
"""Side of a field."""
MAX_FIELDS = 1000
MIN_TISSUE = 0.5
"""Share of a field that is tissue by the overview."""
MIN_STAINED = 0.05
"""Share of a field whose pixels are stained; others say nothing of focus."""
BLOCK_PX = 8
"""Side of the blocks of JPEG (ITU-T T.81)."""
CLIPPED = 255
FOLD_RATIO = 1.6
"""A fold absorbs so many times as much as its surroundings; two layers absorb twice as much."""
FOLD_DEVIATIONS = 2.0
"""And exceeds the median of the slide's tissue by so many robust standard deviations."""
LEAST_NEAR = 1e-3
"""Share of the surroundings that other tissue has at least, weighted by nearness."""
SURROUNDINGS_UM = 200.0
"""Standard deviation of the weights of surroundings."""
COARSE = 8
"""Surroundings are looked at in pixels of which the standard deviation has so many: finer ones tell nothing more."""
MIN_FOLD_UM2 = 10_000.0
MAD_TO_SD = 1.4826
"""Of a normal distribution, whose standard deviation is so many median absolute deviations."""


@dataclass(frozen=True)
class Fields:
    """Measures of n fields."""

    centers: Float64s
    """(n, 2), x and y in pixels of the full resolution."""
    focus: Float64s
    overexposed: Float64s
    """Share of the stained pixels."""
    blockiness: Float64s
    pixels: list[Pixels]
    """Some of the fields (height, width, 3)."""


def measure_fields(level: SlideLevel, tissue: TissueMap, overview: Overview, *, n_kept: int) -> Fields:
    """Measure fields on the tissue, evenly spread over the slide.

    Parameters
    ----------
    level
        The level to read.
    tissue, overview
        Where tissue is.
    n_kept
        About so many fields are returned as pixels.
    """
    side = min(FIELD_PX, *level.shape)
    corners = _corners(level, tissue.tissue, overview, side)
    every = max(1, len(corners) // n_kept)
    windows = [Window(int(x), int(y), side, side, n, n + 1) for n, (x, y) in enumerate(corners)]
    kept: list[Pixels] = []

    def fields() -> Iterator[Pixels]:
        for number, field in enumerate(read_windows(level, windows, np.asarray(tissue.glass, np.uint8))):
            field = field.copy()  # its memory is used again
            if number % every == 0:
                kept.append(field)
            yield field

    with ThreadPoolExecutor(n_cpus()) as threads:
        measured = list(threads.map(lambda field: measure(field, tissue.glass), fields()))
    told = [number for number, values in enumerate(measured) if values is not None]
    focus, overexposed, blocky = np.array([measured[number] for number in told], np.float64).reshape(-1, 3).T
    return Fields((corners[told] + side / 2) * level.factor, focus, overexposed, blocky, kept)


def measure(field: Pixels, glass: Color) -> tuple[float, float, float] | None:
    """Measure focus, over-exposure and blockiness of a field (height, width, 3); `None` where hardly any is stained."""
    from skimage.measure import blur_effect

    grey = field.mean(axis=-1)
    stained = field.min(axis=-1) < min(glass) - GLASS_DARKNESS
    if stained.mean() < MIN_STAINED:
        return None
    clipped = float((field.max(axis=-1) >= CLIPPED)[stained].mean())
    return 1 - float(blur_effect(grey)), clipped, blockiness(grey)


def blockiness(grey: npt.NDArray[np.floating]) -> float:
    """How much larger steps are at the borders of blocks than within them: the mean of both directions, 1 for equal.

    The grid may begin anywhere.
    """
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
        steps = steps[: len(steps) // BLOCK_PX * BLOCK_PX].reshape(-1, BLOCK_PX).mean(axis=0)
        ratios.append(steps.max() / max(float(np.median(steps)), 1e-6))
    return float(np.mean(ratios))


def find_folds(overview: Overview, tissue: TissueMap, stains: Float64s | None) -> Mask:
    """Tell folds: what absorbs much more than its surroundings and than most of the slide's tissue, by both stains.

    Two layers hold more haematoxylin and more eosin. Tissue that is dense in nuclei, as lymphoid tissue is, holds more
    haematoxylin and less eosin.

    Parameters
    ----------
    overview, tissue
        The slide, and where tissue is.
    stains
        Optical densities (2, 3) of its haematoxylin and eosin. `None`, of hardly any tissue, tells no fold.
    """
    from scipy.ndimage import gaussian_filter

    if stains is None or not tissue.tissue.any():
        return np.zeros_like(tissue.tissue)
    mean = np.full((3, 1), 1 / 3)  # over the colours
    amounts = tissue.density @ np.hstack([mean, np.linalg.pinv(stains)]).astype(np.float32)
    total, *both = (gaussian_filter(amount, SMOOTH_UM / overview.mpp) for amount in np.moveaxis(amounts, -1, 0))
    own = total[tissue.tissue]
    median = float(np.median(own))
    is_dark = total > median + FOLD_DEVIATIONS * MAD_TO_SD * float(np.median(np.abs(own - median)))
    weight = (tissue.tissue & ~is_dark).astype(np.float32)
    sigma = SURROUNDINGS_UM / overview.mpp
    near = _around(weight, sigma)
    # Where no other tissue is near, nothing tells a fold from tissue that is dark.
    folds: Mask = tissue.tissue & is_dark & (near > LEAST_NEAR)
    for amount, ratio in ((total, FOLD_RATIO), *((each, 1.0) for each in both)):
        folds &= amount * near > ratio * _around(amount * weight, sigma)
    return without_small(folds, MIN_FOLD_UM2 / overview.mpp**2)


def _around(values: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """Smooth values (height, width) by a Gaussian so wide that it is drawn in larger pixels."""
    from scipy.ndimage import gaussian_filter
    from skimage.transform import downscale_local_mean, resize

    side = max(1, int(sigma / COARSE))
    smooth = gaussian_filter(downscale_local_mean(values, (side, side)), sigma / side)
    large = resize(smooth, np.multiply(smooth.shape, side), order=1, anti_aliasing=False)
    found: npt.NDArray[np.float32] = large[: values.shape[0], : values.shape[1]]
    return found


def lower_limit(values: Float64s, deviations: float) -> float:
    """Return what is below a median by so many robust standard deviations."""
    median = float(np.median(values))
    return median - deviations * MAD_TO_SD * max(float(np.median(np.abs(values - median))), 0.005)


def _corners(level: SlideLevel, tissue: Mask, overview: Overview, side: int) -> npt.NDArray[np.int64]:
    """Choose upper left corners (n, 2) of fields, x and y in pixels of the level, in rows from the top."""
    from scipy.ndimage import uniform_filter

    height, width = level.shape
    x, y = (np.arange(0, n - side + 1, side) for n in (width, height))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    scale = level.factor / overview.factor
    spread = np.maximum(np.rint(side * scale).astype(int), 1)
    share = uniform_filter(tissue.astype(np.float32), spread[::-1])
    column, row = np.clip(((grid + side / 2) * scale).astype(int), 0, np.array(tissue.shape[::-1]) - 1).T
    shares = share[row, column]
    on_tissue = grid[shares >= min(MIN_TISSUE, shares.max(initial=0))] if shares.any() else grid[:0]
    chosen: npt.NDArray[np.int64] = on_tissue[:: -(-len(on_tissue) // MAX_FIELDS) or 1]
    return chosen
