"""The resolution at which clustering gives a number of communities."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

logger = logging.getLogger("stdistill")

Flavor = Literal["igraph", "leidenalg"]
"""Packages that cluster by Leiden."""
FIRST_RESOLUTION = 1.0
MAX_TRIALS = 25
"""Resolutions that are tried: doubling or halving 1 finds an interval, halving that narrows it."""
NARROWEST = 1e-3
"""Share of the resolution at which an interval is not halved any more."""


class Trial(NamedTuple):
    """A resolution and the communities it gives."""

    resolution: float
    labels: npt.NDArray[np.intp]

    @property
    def n_clusters(self) -> int:
        """The number of communities."""
        return int(self.labels.max()) + 1


def search_resolution(communities: Callable[[float], npt.NDArray[np.intp]], k: int, *, fewest: int) -> Trial:
    """Find the resolution whose number of communities is nearest to `k`; of two equally near, the lower number.

    There are always `fewest` or more.
    """

    def attempt(resolution: float) -> Trial:
        trial = Trial(resolution, communities(resolution))
        logger.info("Leiden at resolution %.4g: %d clusters.", resolution, trial.n_clusters)
        return trial

    low, high = 0.0, np.inf
    best = trial = attempt(FIRST_RESOLUTION)
    for _ in range(MAX_TRIALS - 1):
        if trial.n_clusters < k:
            low = trial.resolution
        else:
            high = trial.resolution
        if best.n_clusters == max(k, fewest) or high - low < NARROWEST * high:
            break
        trial = attempt(2 * low if high == np.inf else (low + high) / 2)
        best = min(best, trial, key=lambda each: (abs(each.n_clusters - k), each.n_clusters))
    return best
