"""How much of the tissue is nearest to cells of each category."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from stdistill._measures.labels import Labels
from stdistill._support.arrays import Float64s, Rows
from stdistill._support.cpus import n_cpus

REACH_UM = 30.0
"""What lies further from all cells belongs to none of them: lumina, tears, glass."""
PLACES = 5
"""Along the side of a square of that length: each stands for 36 µm², about the area of a nucleus."""
AT_ONCE = 50_000
"""Squares that are looked at at once, which bounds the memory."""


def territories(centers: Float64s, labels: Labels) -> Float64s:
    """Compute the area of each category in µm²: of what is nearest to its cells, whose centres (n, 2) are in µm.

    The area of a cell is its Voronoi polygon within `REACH_UM`, summed over places on a square grid. What is nearest to
    cells without a category is nobody's.
    """
    tree = cKDTree(centers)
    step = REACH_UM / PLACES
    inside = (np.stack(np.meshgrid(np.arange(PLACES), np.arange(PLACES)), axis=-1).reshape(-1, 2) + 0.5) * step
    counts = np.zeros(len(labels.names) + 1, dtype=np.int64)
    squares = _squares_in_reach(centers)
    for start in range(0, len(squares), AT_ONCE):
        places = (squares[start : start + AT_ONCE, None] * REACH_UM + inside).reshape(-1, 2)
        _, cell = tree.query(places, distance_upper_bound=REACH_UM, workers=n_cpus())
        counts += np.bincount(labels.codes[cell[cell < len(centers)]] + 1, minlength=len(counts))
    return counts[1:].astype(np.float64) * step**2


def _squares_in_reach(centers: Float64s) -> Rows:
    """Return the squares of a grid (m, 2) that hold cells or lie beside one that does."""
    corners = np.unique(np.floor(centers / REACH_UM).astype(np.int64), axis=0)
    around = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2)
    squares: Rows = np.unique((corners[:, None] + around).reshape(-1, 2), axis=0)
    return squares
