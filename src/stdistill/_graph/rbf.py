"""Sums over the neighbours of each point, weighted by how near they are.

The weights of a million cells with some hundreds of neighbours each would take gigabytes, and each is needed once: they
are computed where they are used, and none is stored.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stdistill._graph.bins import bin_points, over_bins
from stdistill._support.arrays import Float64s, Integers
from stdistill._support.jit import njit

BINS_PER_TASK = 256
"""Bins are as wide as the radius and hold a hundred points or so: enough work for a thread."""
MOST_NEIGHBORS = 20_000
"""A mean above this is a radius in another unit than the points'; it would take hours."""


class WeightedSums(NamedTuple):
    """What is asked of a symmetric matrix W of weights."""

    lagged: Float64s
    """W @ values (n, columns)."""
    totals: Float64s
    """Sum of each row of W (n,)."""
    squares: Float64s
    """Sum of the squares of each row of W (n,)."""


def rbf_radius(length: float, cutoff: float) -> float:
    """Return the distance at which a weight has fallen to `cutoff`."""
    return float(length * np.sqrt(-2 * np.log(cutoff)))


def rbf_sums(
    points: Float64s, groups: Integers, values: Float64s, *, length: float, cutoff: float, own: bool
) -> WeightedSums:
    """Sum `values` over the points of the same group, with the weights exp(-d² / 2 length²).

    Parameters
    ----------
    points
        Positions (n, 2).
    groups
        Number of the group of each point (n,); no weight joins two groups.
    values
        What is summed (n, columns).
    length
        Of the weights, in the unit of `points`.
    cutoff
        Weights below it are 0.
    own
        Whether a point counts itself, with weight 1. Others at its place always count.

    Raises
    ------
    ValueError
        When points have more than `MOST_NEIGHBORS` neighbours on average.
    """
    radius = rbf_radius(length, cutoff)
    parts = [bin_points(points, np.flatnonzero(groups == group), radius) for group in np.unique(groups)]
    # Of the points in 3 × 3 bins, a share of π / 9 lies in the disc if they lie evenly.
    mean = sum(bins.n_candidates() for bins in parts) * np.pi / 9 / max(1, len(points))
    if mean > MOST_NEIGHBORS:
        msg = (
            f"Weights of length {length:g} reach {radius:g}, within which there are about {mean:.2g} others; at most "
            f"{MOST_NEIGHBORS:,} are summed. Is the length in the unit of the centres (µm)?"
        )
        raise ValueError(msg)
    sums = WeightedSums(np.zeros(values.shape), np.zeros(len(points)), np.zeros(len(points)))
    for bins in parts:
        # In the order of the bins, so that what is summed together lies together.
        ordered = np.ascontiguousarray(values[bins.number], dtype=np.float64)
        over_bins(_sum, bins, BINS_PER_TASK, radius**2, -0.5 / length**2, own, ordered, *sums)
    return sums


@njit(nogil=True, cache=True)
def _sum(  # type: ignore[no-untyped-def]
    first,
    last,
    points,
    number,
    start,
    run_start,
    run_stop,
    squared_radius,
    exponent,
    own,
    values,
    lagged,
    totals,
    squares,
):
    x, y = points
    n_columns = values.shape[1]
    for b in range(first, last):
        for i in range(start[b], start[b + 1]):
            row = number[i]
            for run in range(3):
                for j in range(run_start[b, run], run_stop[b, run]):
                    squared = (x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2
                    if squared <= squared_radius and (own or j != i):
                        weight = np.exp(exponent * squared)
                        totals[row] += weight
                        squares[row] += weight**2
                        for column in range(n_columns):
                            lagged[row, column] += weight * values[j, column]
