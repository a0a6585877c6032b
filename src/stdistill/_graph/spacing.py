"""How far apart points lie."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from stdistill._support.arrays import Float64s, Integers
from stdistill._support.cpus import n_cpus

SPOTS_UM = 30.0
"""Rows with a larger median spacing are spots: Visium's are 100 µm apart, cells some 10 µm, Visium HD's bins 8 µm."""


def median_spacing(centers: Float64s, libraries: Integers) -> float:
    """Return the median distance of a place to the nearest other one on its slide, in the unit of `centers`.

    Points at one place count once. Slides with one place say nothing of spacing.

    Parameters
    ----------
    centers
        Positions (n, 2).
    libraries
        Number of the slide of each (n,).

    Raises
    ------
    ValueError
        When no slide has two places.
    """
    distances = []
    for library in np.unique(libraries):
        places = np.unique(centers[libraries == library], axis=0)  # sorted: queries of near places are fast
        if len(places) > 1:
            tree = cKDTree(places, balanced_tree=False, compact_nodes=False)
            distances.append(tree.query(places, 2, workers=n_cpus())[0][:, 1])
    if not distances:
        msg = (
            f"There are no two places on one slide among the {len(centers)} centres: they have no spacing. Check the "
            "centres and library_key."
        )
        raise ValueError(msg)
    return float(np.median(np.concatenate(distances)))
