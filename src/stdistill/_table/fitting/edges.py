"""Whether the neighbourhoods are those of the cells as they are divided now."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from stdistill._support.arrays import Floats, Integers, Mask
from stdistill._table.checks import get_centers, get_library_codes
from stdistill._table.graph import (
    RADIUS_TOLERANCE,
    graph_library_key,
    graph_radius,
    graph_split_key,
)
from stdistill._table.libraries import library_codes


def check_edges(
    table: AnnData, graph: csr_matrix, split: pd.Series | None, library_key: str | None, eligible: Mask
) -> None:
    """Raise when edges join what is kept apart, or are missing where nothing is.

    Parameters
    ----------
    table
        The cells.
    graph
        Their connectivities.
    split
        The split that is used, if one is.
    library_key
        Column of the slides, as the user gave it.
    eligible
        (n,), cells that are in a group of the split.
    """
    if split is not None:
        _check_apart(graph, pd.factorize(split)[0], "groups of the split")
    if library_key is not None:
        _check_apart(graph, get_library_codes(table, library_key), "slides")
    made_with = graph_split_key(table)
    if made_with is not None:  # or there is nothing that the cells could have been kept apart by
        groups = library_codes(table, graph_library_key(table))
        if split is not None:
            codes = pd.factorize(split)[0]
            groups = groups * (codes.max() + 1) + codes
        n_lonely = _n_lonely(graph, get_centers(table), groups, eligible, graph_radius(table))
        if n_lonely:
            msg = (
                f"{n_lonely} cells have no neighbours in the graph, and others within its radius: it was made with the "
                f"split in .obs[{made_with!r}] as it was then, and these were in its buffer. Make it again with "
                f"sd.pp.neighborhoods({'split_key=None' if split is None else f'split_key={split.name!r}'})."
            )
            raise ValueError(msg)


def _check_apart(graph: csr_matrix, codes: Integers, what: str) -> None:
    codes = codes.astype(np.min_scalar_type(-int(codes.max()) - 1))  # there is one for each of all edges
    if (np.repeat(codes, np.diff(graph.indptr)) != codes[graph.indices]).any():
        msg = (
            f"The neighbourhood graph joins cells of different {what}: it was made without them. Make it again "
            "with sd.pp.neighborhoods."
        )
        raise ValueError(msg)


def _n_lonely(graph: csr_matrix, centers: Floats, groups: Integers, eligible: Mask, radius: float) -> int:
    """Count the cells without an edge that have another of their group within the radius."""
    lonely = eligible & (np.diff(graph.indptr) == 0)
    near = 0
    for group in np.unique(groups[lonely]):
        mine = eligible & (groups == group)
        if mine.sum() > 1:
            reach = radius * (1 - RADIUS_TOLERANCE)  # a neighbour at the radius itself may be one or not
            distances = cKDTree(centers[mine]).query(centers[mine & lonely], 2, distance_upper_bound=reach)[0]
            near += int(np.isfinite(distances[:, 1]).sum())
    return near
