"""The radius at which a disc at a random place in the tissue holds a given number of cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.spatial import cKDTree

from stdistill._support.arrays import Float64s
from stdistill._support.cpus import n_cpus

N_PLACES = 20_000
"""Counts of cells vary by about half their mean, so that this many places give the mean to about 0.4 %."""
TOLERANCE = 1e-4
"""Relative accuracy of the radius on these places."""
IN_TISSUE = 0.99
"""A place further from its nearest cell than this share of the cells is from theirs is a hole or off the tissue."""


def neighborhood_radius(
    centers: Float64s, libraries: npt.NDArray[np.integer[Any]], n_neighbors: int, seed: int
) -> float:
    """Find the radius, in the unit of `centers`, at which the mean over random places in the tissue is met.

    Tissue is every place whose nearest cell is no further than 99 % of the cells are from theirs: in even tissue, where
    a place and a cell see the same distances, that is 99 % of it; a sparse part beside a dense one is not lost; and a
    few stray cells change nothing.

    Parameters
    ----------
    centers
        Cell centres (n, 2).
    libraries
        Number of the slide of each cell (n,); slides do not see each other.
    n_neighbors
        Number of cells that a disc shall hold on average.
    seed
        Of the random places.
    """
    # Trees that are built fast; they are asked only for some thousands of places.
    trees = [
        cKDTree(centers[libraries == library], balanced_tree=False, compact_nodes=False)
        for library in np.unique(libraries)
    ]
    largest = max(tree.n for tree in trees)
    if n_neighbors > largest:
        msg = (
            f"n_neighbors={n_neighbors}, but the largest slide has {largest} (training) cells: no disc can hold that "
            "many. Ask for fewer, or give radius_um."
        )
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    gap = _largest_gap(trees, rng)
    places = _tissue_places(trees, gap, rng)
    most = np.average([tree.n for tree in trees], weights=[len(mine) for mine in places])
    if n_neighbors > most:
        msg = (
            f"n_neighbors={n_neighbors}, but the slides have only {most:.0f} (training) cells on average: no radius "
            "can hold that many. Ask for fewer, or give radius_um."
        )
        raise ValueError(msg)

    def mean_count(radius: float) -> float:
        counts = [
            tree.query_ball_point(mine, radius, return_length=True, workers=n_cpus())
            for tree, mine in zip(trees, places, strict=True)
        ]
        return float(np.concatenate(counts).mean())

    low, high = 0.0, gap
    while mean_count(high) < n_neighbors:
        low, high = high, 2 * high
    return float(brentq(lambda radius: mean_count(radius) - n_neighbors, low, high, rtol=TOLERANCE))


def _largest_gap(trees: list[cKDTree], rng: np.random.Generator) -> float:
    """Find the distance within which `IN_TISSUE` of the cells have another one that is not at the same place."""
    distances = []
    for tree in trees:
        sample = tree.data[rng.choice(tree.n, min(tree.n, 10_000), replace=False)]
        distances.append(tree.query(sample, min(tree.n, 8), workers=n_cpus())[0].reshape(len(sample), -1))
    apart = np.concatenate([d.ravel()[(d > 0).argmax(axis=1) + np.arange(len(d)) * d.shape[1]] for d in distances])
    apart = apart[(apart > 0) & np.isfinite(apart)]
    if not len(apart):  # every cell shares its place with many others
        places = np.unique(np.concatenate([tree.data for tree in trees]), axis=0)
        if len(places) < 2:
            msg = "All cells have the same centre: there is no tissue to sample. Check them, or give radius_um."
            raise ValueError(msg)
        apart = np.asarray(cKDTree(places).query(places, 2)[0])[:, 1]
    return float(np.quantile(apart, IN_TISSUE))


def _tissue_places(trees: list[cKDTree], gap: float, rng: np.random.Generator) -> list[Float64s]:
    """Draw places evenly over the tissue of all slides; one array (m, 2) for each."""
    # Places are proposed in bins around cells, not in the bounding box, which one stray cell can blow up. The bins are
    # wider than the gap to have fewer of them.
    side = 4 * gap
    corners = [_bins_around(tree.data, side) for tree in trees]
    slide = np.repeat(np.arange(len(trees)), [len(c) for c in corners])
    corner = np.concatenate(corners)
    kept: list[list[Float64s]] = [[] for _ in trees]
    n_kept = 0
    while n_kept < N_PLACES:
        # In the order of the bins, which is also an order in space: queries of near places are fast.
        drawn = np.sort(rng.integers(len(corner), size=2 * N_PLACES))
        places = (corner[drawn] + rng.random((len(drawn), 2))) * side
        for number, tree in enumerate(trees):
            mine = places[slide[drawn] == number]
            in_tissue = mine[tree.query(mine, distance_upper_bound=gap, workers=n_cpus())[0] <= gap]
            kept[number].append(in_tissue)
            n_kept += len(in_tissue)
    return [np.concatenate(k) for k in kept]


def _bins_around(points: Float64s, side: float) -> Float64s:
    """Lower corners, in units of `side`, of the square bins that hold a point or touch one that does."""
    low = np.floor(points.min(axis=0) / side) - 1
    x, y = (np.floor(points / side) - low).astype(np.int64).T
    width = int(x.max()) + 2
    occupied = np.unique(y * width + x)
    steps = np.array([dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    around = np.unique(occupied[:, None] + steps)
    corners: Float64s = np.stack([around % width, around // width], axis=1) + low
    return corners
