"""How densely cells lie."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from stdistill._support.arrays import Float64s, Integers, Rows
from stdistill._support.cpus import n_cpus

UM2_PER_MM2 = 1e6


def cells_per_mm2(centers: Float64s, libraries: Integers, rows: Rows, radius_um: float) -> Float64s:
    """Count the cells within a radius around some of them, with themselves, per mm² of the disc.

    Parameters
    ----------
    centers
        Positions (n, 2) in µm.
    libraries
        Number of the slide of each (n,).
    rows
        The cells (m,) around which to count.
    radius_um
        The radius.
    """
    counts = np.zeros(len(rows))
    for library in np.unique(libraries[rows]):
        here = libraries[rows] == library
        tree = cKDTree(centers[libraries == library], balanced_tree=False, compact_nodes=False)
        counts[here] = tree.query_ball_point(centers[rows[here]], radius_um, return_length=True, workers=n_cpus())
    return counts * (UM2_PER_MM2 / (np.pi * radius_um**2))
