"""The neighbourhood graph of a table, as :func:`stdistill.pp.neighborhoods` and squidpy write it."""

from __future__ import annotations

import math

import numpy as np
from anndata import AnnData
from scipy.sparse import csr_matrix

from stdistill._support.checks import check_key, check_sparse
from stdistill._table import schema
from stdistill._table.records import read_record

NEIGHBORS = f"{schema.SPATIAL}_neighbors"
"""``.uns``: the names of the two matrices in ``.obsp``, and the parameters."""
RADIUS_TOLERANCE = 1e-6
"""Radii that differ by no larger share are the same."""
HINT = "Run sd.pp.neighborhoods."


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
    """Return the connectivities (n, n) without self edges, each neighbour once."""
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
    return graph


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
