"""The neighbourhood graph of a table, as :func:`stdistill.pp.neighborhoods` and squidpy write it."""

from __future__ import annotations

import math

import numpy as np
from anndata import AnnData
from scipy.sparse import csr_matrix

from stdistill._support.checks import check_key, check_sparse
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import get_centers
from stdistill._table.records import read_record

NEIGHBORS = f"{schema.SPATIAL}_neighbors"
"""``.uns``: the names of the two matrices in ``.obsp``, and the parameters."""
RADIUS_TOLERANCE = 1e-6
"""Radii that differ by no larger share are the same."""
HINT = "Run sd.pp.neighborhoods."
MOST_EDGES = 1_000_000
"""Edges that are looked at."""
FEW_EDGES = 10_000
"""Edges that tell of another unit, which all have."""
MANY_EDGES = 1_000
SHORT = 0.7
"""So many edges, none of which is longer than this part of the radius, are no neighbourhoods of it (our choice)."""
MOST_LOST = 0.5
"""More of the neighbours are not lost at the rim of a part that is cut out, nor with cells of low quality (ours)."""


def is_same_radius(one: float, other: float) -> bool:
    """Whether two radii are the same but for rounding."""
    return math.isclose(one, other, rel_tol=RADIUS_TOLERANCE)


def decimals_apart(*radii: float) -> int:
    """Return how many decimals tell different radii apart: two, or as many as it takes."""
    decimals = 2
    while decimals < 15 and len({round(radius, decimals) for radius in radii}) < len(set(radii)):
        decimals += 1
    return decimals


def has_graph(adata: AnnData) -> bool:
    """Whether the cells are connected."""
    return NEIGHBORS in adata.uns


def graph_key(adata: AnnData) -> str:
    """Name the connectivities in ``.obsp``, which are there; raise a `KeyError` that says how to make them."""
    if not has_graph(adata):
        msg = f'There is no .uns["{NEIGHBORS}"], where neighbourhoods are expected. {HINT}'
        raise KeyError(msg)
    key = str(adata.uns[NEIGHBORS].get("connectivities_key", f"{schema.SPATIAL}_connectivities"))
    check_key(key, adata.obsp.keys(), "a graph in .obsp", argument="connectivities_key", hint=HINT)
    return key


def read_graph(adata: AnnData) -> csr_matrix:
    """Return the connectivities (n, n) without self edges, each neighbour once, of the cells that there are.

    Raises
    ------
    ValueError
        When edges of a graph with a radius are too long, or all too short, for it: centres have changed since.

    Warns
    -----
    UserWarning
        When most neighbours were taken away since.
    """
    key = graph_key(adata)
    check_sparse(adata.obsp[key], f".obsp[{key!r}]", HINT)
    graph = csr_matrix(adata.obsp[key])
    if not graph.has_canonical_format:
        graph = graph.copy()
        graph.sum_duplicates()
    if graph.diagonal().any():
        graph = graph.copy()
        graph.setdiag(0)
        graph.eliminate_zeros()
    if (strange := _strange_lengths(adata, graph)) is not None:
        msg = f"{strange} Make it again with sd.pp.neighborhoods."
        raise ValueError(msg)
    _warn_of_lost_neighbors(adata, graph)
    return graph


def warn_of_other_unit(adata: AnnData) -> None:
    """Warn when centres have another unit than when the cells were connected, where lengths are shown or measured."""
    key = adata.uns.get(NEIGHBORS, {}).get("connectivities_key")
    graph = adata.obsp.get(key)
    if isinstance(graph, csr_matrix) and (strange := _strange_lengths(adata, graph, FEW_EDGES)) is not None:
        warn(
            f"{strange} Lengths in µm may be wrong: .obsm[{schema.SPATIAL!r}] is in µm. Put it right, or run "
            "sd.pp.neighborhoods again if it is."
        )


def _strange_lengths(adata: AnnData, graph: csr_matrix, n_edges: int = MOST_EDGES) -> str | None:
    """Say that cells are joined over more than the radius, or all over much less; some edges are looked at."""
    radius = adata.uns[NEIGHBORS].get("params", {}).get("radius")
    if not isinstance(radius, int | float | np.number) or not graph.nnz or schema.SPATIAL not in adata.obsm:
        return None
    centers = get_centers(adata)
    edges = np.unique(np.linspace(0, graph.nnz - 1, n_edges).astype(np.int64))
    rows = np.searchsorted(graph.indptr, edges, side="right") - 1
    lengths = np.linalg.norm(centers[rows] - centers[graph.indices[edges]], axis=1)
    too_long, longest = float((lengths > radius * (1 + RADIUS_TOLERANCE)).mean()), float(lengths.max())
    if too_long:
        return (
            f"{too_long:.1%} of the neighbours lie further away than the graph's radius of {radius:.1f} µm: it is of "
            "other cells, of cells in another order, or of centres that have changed since."
        )
    if len(lengths) >= MANY_EDGES and longest < SHORT * radius:
        return (
            f"No neighbour lies further away than {longest:.3g} µm, and the graph's radius is {radius:.1f}: the "
            "centres have changed since, for example their unit, or edges were taken away."
        )
    return None


def _warn_of_lost_neighbors(adata: AnnData, graph: csr_matrix) -> None:
    """Warn when most neighbours went with cells that were taken away since, such as a random sample leaves them."""
    before = read_record(adata, "neighborhoods").get("mean_neighbors", 0.0)
    split = adata.obs.get(graph_split_key(adata))
    n_cells = adata.n_obs if split is None else int((split.notna() & (split != schema.BUFFER)).sum())
    now = graph.nnz / max(1, n_cells)
    if graph_fingerprint(adata) is not None and now < (1 - MOST_LOST) * before:
        warn(
            f"Cells have {now:.1f} neighbours on average; they had {before:.1f} when sd.pp.neighborhoods was run. "
            "Cells were taken away since, as by sc.pp.subsample or where one cell type is kept: what is left of a "
            "neighbourhood is not what was there. Fit and predict on all cells, and take cells away afterwards."
        )


def graph_radius(adata: AnnData) -> float:
    """Return the radius of the graph, in µm."""
    radius = adata.uns[NEIGHBORS].get("params", {}).get("radius")
    if not isinstance(radius, int | float | np.integer | np.floating) or not radius > 0:
        msg = (
            f'.uns["{NEIGHBORS}"] records the radius {radius!r}; the neighbours within one radius are needed. '
            "Make them with sd.pp.neighborhoods."
        )
        raise ValueError(msg)
    return float(radius)


def graph_library_key(adata: AnnData) -> str | None:
    """Name the column of the slides that the neighbourhoods keep apart, where it is recorded and there."""
    key = adata.uns.get(NEIGHBORS, {}).get("params", {}).get("library_key")
    return str(key) if key in adata.obs else None


def graph_split_key(adata: AnnData) -> str | None:
    """Name the column of the split that the neighbourhoods were made with, where one is recorded."""
    key = adata.uns.get(NEIGHBORS, {}).get("params", {}).get("split_key")
    return None if key is None else str(key)


def graph_fingerprint(adata: AnnData) -> str | None:
    """Return the fingerprint of the neighbourhoods; `None` when they are not those that were recorded last."""
    record = read_record(adata, "neighborhoods")
    if not has_graph(adata) or record.get("radius_um") != adata.uns[NEIGHBORS].get("params", {}).get("radius"):
        return None
    return record.get("fingerprint")
