"""Features brought to one mean and spread on every slide, by its own cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stdistill._support.arrays import Float64s, Integers, Mask
from stdistill._support.warn import warn
from stdistill.models.features import ReadableRows, as_tensor, feature_statistics, standardize, usable_spread

FEWEST = 100
"""Fewer cells do not tell the mean of a slide well (our choice)."""
CUTS = ((1, 0), (0, 2), (1, 2))
"""Slides are cut into halves either way, and into quarters (our choice): what cells beyond the median of x, and of y,
add to the number of their part."""


class SlideFeatures:
    """Features of slides, standardised as they are read, each slide's by the mean and spread of all of its cells.

    What a stain and a scanner do to all cells alike is taken away, and what cells of a slide differ by is kept.

    Parameters
    ----------
    features
        (n, d) array or memory map.
    slides
        (n,), number of each cell's slide.
    known
        (n,), the cells that have features.
    """

    def __init__(self, features: ReadableRows, slides: Integers, known: Mask) -> None:
        self.features, self.shape = features, features.shape
        present = np.unique(slides)
        self.slides = np.searchsorted(present, slides)
        statistics = [self._of(np.flatnonzero(known & (slides == slide))) for slide in present]
        self.mean, self.spread = (torch.stack(each) for each in zip(*statistics, strict=True))

    def __getitem__(self, rows: Any) -> Tensor:
        features, slides = as_tensor(self.features[rows]), torch.from_numpy(self.slides[rows])
        return standardize(features, *(each[slides].to(features.device) for each in (self.mean, self.spread)))

    def _of(self, cells: Integers) -> tuple[Tensor, Tensor]:
        """Mean and spread of one slide's features; those of a slide without any do not matter."""
        mean, std = feature_statistics([self.features], cells) if len(cells) else (torch.zeros(self.shape[1]),) * 2
        return mean, usable_spread(std) if (std > 0).any() else torch.ones_like(std)


def _warn_of_few(slides: Integers, known: Mask) -> None:
    """Warn of slides that have so few cells with features that their means say little."""
    counts = np.unique(slides[known], return_counts=True)[1]
    few = counts[counts < FEWEST]
    if len(few):
        warn(
            f"{len(few)} of {len(counts)} slides have fewer than {FEWEST} rows with features, the fewest {few.min()}, "
            'by which these are standardised (standardize="slide"): so few do not tell what a stain does to a slide.'
        )


def as_seen(features: ReadableRows, slides: Integers, known: Mask, how: str) -> ReadableRows:
    """Return features as a model sees them that standardises them by all training cells, or slide by slide."""
    if how == "training":
        return features
    _warn_of_few(slides, known)
    return SlideFeatures(features, slides, known)


def parts_as_seen(features: ReadableRows, slides: Integers, known: Mask, centers: Float64s) -> list[ReadableRows]:
    """Return features as they are seen where each part of a slide is a slide of its own: of halves, and of quarters.

    It is what a mean of other shares of the tissues does to them.
    """
    cuts = [_cut(slides, known, centers, cut) for cut in CUTS]
    return [SlideFeatures(features, parts, known) for parts in cuts if len(np.unique(parts)) > len(np.unique(slides))]


def _cut(slides: Integers, known: Mask, centers: Float64s, cut: tuple[int, int]) -> Integers:
    """Give each cell (n,) the number of its part; a slide with a part of too few cells to tell a mean stays whole."""
    parts = 4 * slides.astype(np.int64)
    for slide in np.unique(slides):
        cells = np.flatnonzero(slides == slide)
        part = (centers[cells] > np.median(centers[cells], axis=0)) @ np.array(cut)
        counts = np.unique(part[known[cells]], return_counts=True)[1]
        if len(counts) and counts.min() >= FEWEST:
            parts[cells] += part
    return parts
