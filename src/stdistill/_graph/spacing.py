"""How far apart points lie."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from stdistill._support.arrays import Float64s, Integers
from stdistill._support.cpus import n_cpus

SPOTS_UM = 30.0
"""Rows with a larger median spacing are spots: Visium's are 100 µm apart, cells some 10 µm, Visium HD's bins 8 µm."""

FEWEST = 100
"""Fewer centres may lie anywhere."""
LEAST_UM2 = 0.5
"""Centres with less room than this on average are in another unit: bins of Visium HD have 4 µm², cells 50 to 300."""


def check_room(centers: Float64s) -> None:
    """Raise when so many centres (n, 2) cannot lie in so small a place, as where they are mm.

    Raises
    ------
    ValueError
        When they have less than half a µm² each. Of few centres, or of centres on a line, nothing is said.
    """
    area = float(np.prod(np.ptp(centers, axis=0))) if len(centers) >= FEWEST else 0.0
    if 0 < area < LEAST_UM2 * len(centers):
        width, height = np.ptp(centers, axis=0)
        msg = (
            f"{len(centers)} centres lie within {width:.3g} × {height:.3g} µm, {area / len(centers):.2g} µm² for each: "
            'they are in another unit, such as mm. Multiply them: adata.obsm["spatial"] = 1000 * adata.obsm["spatial"].'
        )
        raise ValueError(msg)


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
