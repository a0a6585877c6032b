"""All pairs of points within a radius, as sparse matrices.

The candidates of a bin are gathered once for all its points and in the order of their numbers; the columns of each row
then come out sorted. Pairs are counted first, so that each matrix is allocated once, at its final size.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from stdistill._graph.bins import bin_points, over_bins
from stdistill._support.arrays import Float64s, Integers
from stdistill._support.jit import njit

BINS_PER_TASK = 2048
CATCHES_ALL = 0.5
"""A graph with more than this share of all pairs, and `MANY` edges per point, is taken for a wrong unit."""
MANY = 100
MOST_NEIGHBORS = 3000
"""A mean above this would fill the memory for a graph that is of no use."""


def radius_graph(points: Float64s, radius: float, groups: Integers) -> tuple[csr_matrix, csr_matrix]:
    """Connect all points of a group that lie within `radius` of each other.

    Parameters
    ----------
    points
        Positions (n, 2).
    radius
        In the unit of `points`; pairs at exactly this distance are connected.
    groups
        Number of the group of each point (n,); points with a negative number get no edges.

    Returns
    -------
    Connectivities (1 for each edge) and distances, both (n, n) float32 CSR, symmetric, without the diagonal, columns
    sorted. A pair of points at one place is an explicit zero among the distances.

    Raises
    ------
    ValueError
        When the radius catches nearly all points, or makes more edges than 32-bit indices can address. It is raised
        before anything large is allocated.
    """
    parts = [bin_points(points, np.flatnonzero(groups == group), radius) for group in np.unique(groups[groups >= 0])]
    n = len(points)
    # Of the points in 3 × 3 bins, a share of π / 9 lies in the disc if they lie evenly: good enough to tell whether
    # counting them all is hopeless.
    _check_size(sum(bins.n_candidates() for bins in parts) * np.pi / 9, n, radius)
    degree = np.zeros(n + 1, dtype=np.int64)
    for bins in parts:
        over_bins(_count, bins, BINS_PER_TASK, radius**2, degree[1:])
    pointer = np.cumsum(degree)
    n_edges = int(pointer[-1])
    _check_size(n_edges, n, radius)
    n_pairs = sum(len(bins.number) * (len(bins.number) - 1) for bins in parts)
    if n_edges > CATCHES_ALL * n_pairs and n_edges > MANY * n:
        msg = (
            f"A radius of {radius:g} catches {n_edges / n_pairs:.0%} of all pairs of cells ({n_edges / n:.0f} "
            "neighbours each): such neighbourhoods say nothing of place. Is the radius in the unit of the centres (µm)?"
        )
        raise ValueError(msg)
    # Each matrix gets indices of its own: in-place methods of one must not change the other. Both are written in the
    # threads, because giving out new pages of memory takes longer than finding the neighbours.
    indices = np.empty((2, n_edges), dtype=np.int32)
    values = np.empty((2, n_edges), dtype=np.float32)
    for bins in parts:
        over_bins(_fill, bins, BINS_PER_TASK, radius**2, pointer, indices, values)
    connectivities, distances = (
        csr_matrix((values[which], indices[which], pointer.astype(np.int32)), shape=(n, n)) for which in (0, 1)
    )
    return connectivities, distances


def _check_size(n_edges: float, n: int, radius: float) -> None:
    most = min(np.iinfo(np.int32).max, MOST_NEIGHBORS * n)
    if n_edges > most:
        msg = (
            f"A radius of {radius:g} makes about {n_edges:.2g} edges, {n_edges / n:.0f} for each of {n} cells; at most "
            f"{most:.2g} are made. Is the radius in the unit of the centres (µm)?"
        )
        raise ValueError(msg)


@njit(nogil=True, cache=True)
def _count(first, last, points, number, start, run_start, run_stop, squared_radius, degree):  # type: ignore[no-untyped-def]
    x, y = points
    for b in range(first, last):
        for i in range(start[b], start[b + 1]):
            found = -1  # the point itself
            for run in range(3):
                for j in range(run_start[b, run], run_stop[b, run]):
                    found += (x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2 <= squared_radius
            degree[number[i]] = found


@njit(nogil=True, cache=True)
def _fill(  # type: ignore[no-untyped-def]
    first, last, points, number, start, run_start, run_stop, squared_radius, pointer, indices, values
):
    x, y = points
    for b in range(first, last):
        n_candidates = (run_stop[b] - run_start[b]).sum()
        # Sorted by number, which is packed above the position: one sort of integers is faster than an argsort.
        packed = np.empty(n_candidates, dtype=np.int64)
        j = 0
        for run in range(3):
            for position in range(run_start[b, run], run_stop[b, run]):
                packed[j] = (np.int64(number[position]) << 32) | position
                j += 1
        packed.sort()
        candidates = packed & 0xFFFFFFFF
        numbers = number[candidates]
        candidate_x, candidate_y = x[candidates], y[candidates]
        near = np.empty(n_candidates + 1, dtype=np.int32)
        for i in range(start[b], start[b + 1]):
            squared = (x[i] - candidate_x) ** 2 + (y[i] - candidate_y) ** 2
            # Each candidate is written, and kept by moving on: a branch would be mispredicted at every third.
            n_near = 0
            for j in range(n_candidates):
                near[n_near] = j
                n_near += squared[j] <= squared_radius
            at = pointer[number[i]]
            for j in near[:n_near]:
                if numbers[j] != number[i]:
                    indices[0, at] = indices[1, at] = numbers[j]
                    values[0, at] = 1
                    values[1, at] = np.sqrt(squared[j])
                    at += 1
