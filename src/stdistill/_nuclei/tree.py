"""Nuclei without weights: the best set of components of the optical density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import watershed

from stdistill._nuclei.density import NUCLEUS_PX
from stdistill._support.arrays import Float64s

USUAL_AREA = np.pi * (NUCLEUS_PX / 2) ** 2
THRESHOLDS = np.geomspace(0.15, 2.0, 24)
"""Optical densities of red, which eosin hardly absorbs: from pale nuclei to black ones (our choice)."""
AREA_SHARES = (0.15, 3.0)
"""Areas that a nucleus may have, in those of a disc of usual diameter."""
MIN_WIDTH_PX = 3.0
"""Short axis of the thinnest spindle, 1.5 µm."""
SHARP = 0.25
"""Slope of density, per pixel, of an edge that counts half."""
MIN_SCORE = 0.05
"""Score from which on a component is a nucleus."""
MIN_DENSITY = 0.15
"""What a nucleus is denser than what is around it."""

Labels = npt.NDArray[np.int32]
Map = npt.NDArray[np.float32]


@dataclass
class _Level:
    """The components above one threshold."""

    labels: Labels
    scores: Float64s
    """Of each component, the first being what is below the threshold."""
    best: Float64s
    """Of each component: its own score, or what the best set of parts of it scores together."""


def find_by_tree(density: Map) -> Labels:
    """Find nuclei as components above thresholds of their own.

    The components above rising thresholds form a tree: each lies in one above the threshold before. Each is scored by
    its size, by how much of an ellipse it is, and by how sharp its edge is; of all sets of components that do not
    overlap, the one with the highest sum of scores is taken, as for the maximally stable regions of Arteta et al. 2012.
    No number depends on the rest of the image, so that a tile has the nuclei that the whole has.

    Parameters
    ----------
    density
        Optical density (3, h, w), with nuclei of about 14 px.

    Returns
    -------
    Label image (h, w): 1 … n, 0 elsewhere.
    """
    red = ndimage.gaussian_filter(density[0], 0.8)
    slope = np.hypot(*(ndimage.sobel(red, axis) / 8 for axis in (0, 1)))
    lowest = ndimage.minimum_filter(red, footprint=ndimage.generate_binary_structure(2, 1))
    levels: list[_Level] = []
    for threshold in THRESHOLDS[::-1]:
        labels, n = ndimage.label(red > threshold)
        scores = _score(labels, n, threshold, slope, lowest)
        parts = _sum_of_parts(labels, n, levels[-1]) if levels else np.zeros(n + 1)
        levels.append(_Level(labels, scores, np.maximum(scores, parts)))
    return _grow(_select(levels[::-1]), red)


def _grow(cores: Labels, red: Map) -> Labels:
    """Let nuclei end half-way between their own density and that around them."""
    ground = ndimage.grey_opening(red, 3 * round(NUCLEUS_PX))
    ground = ndimage.uniform_filter(ground, round(NUCLEUS_PX))
    basins = watershed(-red, cores, mask=red > ground + MIN_DENSITY)
    n = int(cores.max(initial=0)) + 1
    inside = cores.ravel()
    dark = np.bincount(inside, red.ravel(), n) / np.maximum(np.bincount(inside, minlength=n), 1)
    basins[red < (dark[basins] + ground) / 2] = 0
    parts = label(basins, connectivity=1)
    large = np.bincount(parts.ravel()) >= AREA_SHARES[0] * USUAL_AREA
    large[0] = False
    grown: Labels = np.where(large, large.cumsum(), 0).astype(np.int32)[parts]
    return grown


def _score(labels: Labels, n: int, threshold: float, slope: Map, lowest: Map) -> Float64s:
    """Score the components by size, fit of an ellipse, and edge; 0 for those that are no nucleus."""
    areas = np.bincount(labels.ravel(), minlength=n + 1)
    plausible = (areas >= AREA_SHARES[0] * USUAL_AREA) & (areas <= AREA_SHARES[1] * USUAL_AREA)
    plausible[0] = False
    rows, columns = np.nonzero(plausible[labels])
    at = labels[rows, columns]

    def mean(values: npt.NDArray[Any]) -> Float64s:
        return np.asarray(np.bincount(at, values, n + 1) / np.maximum(areas, 1))

    row_mean, column_mean = mean(rows), mean(columns)
    down, right = rows - row_mean[at], columns - column_mean[at]
    # A pixel is a square, not a point: its own variance is 1/12.
    yy, xx, xy = mean(down**2) + 1 / 12, mean(right**2) + 1 / 12, mean(down * right)
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    short, long = np.maximum(middle - spread, 1 / 12), middle + spread  # variances along the axes
    fit = np.minimum(areas / (4 * np.pi * np.sqrt(short * long)), 1)
    plausible &= 4 * np.sqrt(short) >= MIN_WIDTH_PX
    border = lowest[rows, columns] <= threshold
    slopes = np.bincount(at[border], slope[rows[border], columns[border]], n + 1)
    edge = slopes / np.maximum(np.bincount(at[border], minlength=n + 1), 1)
    scores: Float64s = plausible * (areas / USUAL_AREA) ** 0.25 * fit**3 * edge / (edge + SHARP)
    scores[scores < MIN_SCORE] = 0
    return scores


def _sum_of_parts(labels: Labels, n: int, above: _Level) -> Float64s:
    """Sum, for each component, the best scores of the components above the next threshold that lie in it."""
    return np.asarray(np.bincount(_parents(labels, above), above.best, n + 1))


def _parents(labels: Labels, above: _Level) -> npt.NDArray[np.int64]:
    parents = np.zeros(len(above.scores), dtype=np.int64)
    inside = above.labels > 0
    parents[above.labels[inside]] = labels[inside]
    return parents


def _select(levels: list[_Level]) -> Labels:
    """Take, from the lowest threshold up, each component that scores more than its parts do."""
    found = np.zeros_like(levels[0].labels)
    n_found = 0
    taken = np.zeros(len(levels[0].scores), dtype=bool)
    for number, level in enumerate(levels):
        if number:
            taken = taken[_parents(levels[number - 1].labels, level)]
        chosen = ~taken & (level.scores > 0) & (level.scores >= level.best)
        names = np.zeros(len(chosen), dtype=np.int32)
        names[chosen] = n_found + np.arange(1, chosen.sum() + 1)
        n_found += int(chosen.sum())
        found += names[level.labels]
        taken = taken | chosen
    return found
