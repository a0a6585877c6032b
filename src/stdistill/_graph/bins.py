"""Points in square bins as wide as a radius, so that the neighbours of a point lie in the 3 × 3 bins around it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from stdistill._support.arrays import Float64s, Integers
from stdistill._support.cpus import n_cpus


@dataclass(frozen=True)
class Bins:
    """The points of one group, sorted by bin; only bins that hold a point are kept."""

    points: Float64s
    """x and y (2, m) of the points, in the order of their bins."""
    number: Integers
    """Number of each of these points in the caller's order; ascending within a bin."""
    start: Integers
    """First point of each bin, and m."""
    run_start: Integers
    run_stop: Integers
    """For each bin the points of the three rows of bins around it (n_bins, 3): three runs of `points`."""

    def n_candidates(self) -> int:
        """Count the pairs of points that are near enough to be looked at."""
        return int(((self.run_stop - self.run_start).sum(axis=1) * np.diff(self.start)).sum())


def bin_points(points: Float64s, members: Integers, radius: float) -> Bins:
    """Sort the points (n, 2) of a group, whose numbers are `members`, into bins."""
    inside = points[members]
    # A trifle wider than the radius, so that rounding never puts a neighbour two bins away.
    column, row = ((inside - inside.min(axis=0)) / (radius * (1 + 1e-6))).astype(np.int64).T
    # Empty columns at both ends keep the neighbours of a bin at the edge from wrapping into the next row.
    row_length = int(column.max()) + 3
    key = row * row_length + column + 1
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    rows = key[first][:, None] + np.array([-1, 0, 1]) * row_length
    return Bins(
        points=np.ascontiguousarray(inside[order].T),
        number=members[order].astype(np.int32),
        start=np.r_[first, len(key)],
        run_start=np.searchsorted(key, rows - 1, side="left"),
        run_stop=np.searchsorted(key, rows + 1, side="right"),
    )


def over_bins(kernel: Callable[..., None], bins: Bins, bins_per_task: int, *arguments: Any) -> None:
    """Run `kernel`, which leaves the interpreter alone, over all bins; no two bins write to the same place."""
    n_bins = len(bins.start) - 1
    tasks = [(first, min(first + bins_per_task, n_bins)) for first in range(0, n_bins, bins_per_task)]
    with ThreadPoolExecutor(n_cpus()) as pool:
        futures = [
            pool.submit(kernel, *task, bins.points, bins.number, bins.start, bins.run_start, bins.run_stop, *arguments)
            for task in tasks
        ]
        for future in futures:
            future.result()
