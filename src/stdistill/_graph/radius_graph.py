"""All pairs of points within a radius, as sparse matrices.

Points are sorted into square bins as wide as the radius, so that the neighbours of a point lie in the 3 × 3 bins
around it. The candidates of a bin are gathered once for all its points and in the order of their numbers; the columns
of each row then come out sorted. Pairs are counted first, so that each matrix is allocated once, at its final size.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from stdistill._slide.affine import Float64Array
from stdistill._support.cpus import n_cpus
from stdistill._support.jit import njit

IntArray = npt.NDArray[np.integer[Any]]

BINS_PER_TASK = 2048
CATCHES_ALL = 0.5
"""A graph with more than this share of all pairs, and `MANY` edges per point, is taken for a wrong unit."""
MANY = 100
MOST_NEIGHBORS = 3000
"""A mean above this would fill the memory for a graph that is of no use."""


@dataclass(frozen=True)
class _Bins:
    """The points of one group, sorted by bin; only bins that hold a point are kept."""

    points: Float64Array
    """x and y (2, m) of the points, in the order of their bins."""
    number: IntArray
    """Number of each of these points in the caller's order; ascending within a bin."""
    start: IntArray
    """First point of each bin, and m."""
    run_start: IntArray
    run_stop: IntArray
    """For each bin the points of the three rows of bins around it (n_bins, 3): three runs of `points`."""


def radius_graph(points: Float64Array, radius: float, groups: IntArray) -> tuple[csr_matrix, csr_matrix]:
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
    parts = [_bin(points, np.flatnonzero(groups == group), radius) for group in np.unique(groups[groups >= 0])]
    n = len(points)
    # Of the points in 3 × 3 bins, a share of π / 9 lies in the disc if they lie evenly: good enough to tell whether
    # counting them all is hopeless.
    _check_size(sum(_n_candidates(bins) for bins in parts) * np.pi / 9, n, radius)
    degree = np.zeros(n + 1, dtype=np.int64)
    for bins in parts:
        _in_threads(_count, bins, radius**2, degree[1:])
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
        _in_threads(_fill, bins, radius**2, pointer, indices, values)
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


def _n_candidates(bins: _Bins) -> int:
    """Count the pairs of points that are near enough to be looked at."""
    return int(((bins.run_stop - bins.run_start).sum(axis=1) * np.diff(bins.start)).sum())


def _bin(points: Float64Array, members: IntArray, radius: float) -> _Bins:
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
    return _Bins(
        points=np.ascontiguousarray(inside[order].T),
        number=members[order].astype(np.int32),
        start=np.r_[first, len(key)],
        run_start=np.searchsorted(key, rows - 1, side="left"),
        run_stop=np.searchsorted(key, rows + 1, side="right"),
    )


def _in_threads(kernel: Callable[..., None], bins: _Bins, *arguments: Any) -> None:
    """Run `kernel`, which leaves the interpreter alone, over all bins; no two bins write to the same place."""
    n_bins = len(bins.start) - 1
    tasks = [(first, min(first + BINS_PER_TASK, n_bins)) for first in range(0, n_bins, BINS_PER_TASK)]
    with ThreadPoolExecutor(n_cpus()) as pool:
        futures = [
            pool.submit(kernel, *task, bins.points, bins.number, bins.start, bins.run_start, bins.run_stop, *arguments)
            for task in tasks
        ]
        for future in futures:
            future.result()


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
