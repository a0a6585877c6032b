"""Features brought to one mean and spread on every slide, by its own cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stdistill._support.arrays import Integers, Mask
from stdistill._support.warn import warn
from stdistill.models.features import ReadableRows, as_tensor, feature_statistics, standardize, usable_spread

FEWEST = 100
"""Fewer cells do not tell the mean of a slide well (our choice)."""


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
