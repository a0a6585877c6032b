"""Neighbourhoods as squidpy and sd.pp.neighborhoods write them, and what is said where they are not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_array, csr_matrix

import stdistill as sd
from stdistill._table.graph import (
    decimals_apart,
    graph_fingerprint,
    graph_key,
    graph_library_key,
    graph_radius,
    graph_split_key,
    has_graph,
    is_same_radius,
    read_graph,
    warn_of_other_unit,
)


@pytest.fixture
def cells(make_cells: Callable[..., ad.AnnData]) -> ad.AnnData:
    cells = make_cells(50, extent=100.0, slide=["a", "b"] * 25)
    sd.pp.neighborhoods(cells, radius_um=40, library_key="slide")
    return cells


def test_radii() -> None:
    """The same but for rounding, as in files that hold float32; shown with as many decimals as tell them apart."""
    assert is_same_radius(60.1, float(np.float32(60.1)))
    assert not is_same_radius(60.1, 60.101)
    assert decimals_apart(60.0, 61.0) == 2
    assert decimals_apart(60.1234, 60.1235) == 4
    assert decimals_apart(60.0, 60.0) == 2
    assert decimals_apart(1.0, 1.0 + 1e-16) == 2


def test_the_graph_of_a_table(cells: ad.AnnData) -> None:
    assert has_graph(cells)
    assert graph_key(cells) == "spatial_connectivities"
    assert graph_radius(cells) == 40.0
    assert graph_library_key(cells) == "slide"
    assert graph_split_key(cells) is None
    graph = read_graph(cells)
    apart = np.linalg.norm(cells.obsm["spatial"][:, None] - cells.obsm["spatial"][None], axis=2)
    expected = (apart <= 40) & (np.arange(50)[:, None] % 2 == np.arange(50)[None] % 2) & ~np.eye(50, dtype=bool)
    np.testing.assert_array_equal(graph.toarray() > 0, expected)


@pytest.mark.parametrize("spoilt", ["indices", "negative", "indptr"])
@pytest.mark.parametrize("kind", [csr_matrix, csr_array, csc_matrix])
def test_a_damaged_matrix_ends_no_process(cells: ad.AnnData, spoilt: str, kind: Any) -> None:
    graph = kind(cells.obsp["spatial_connectivities"])
    if spoilt == "indptr":
        graph.indptr[10] = graph.nnz + 1000
    else:
        graph.indices[5] = {"indices": 50, "negative": -1}[spoilt]
    cells.obsp["spatial_connectivities"] = graph
    with pytest.raises(
        ValueError, match=r"\.obsp\['spatial_connectivities'\] is a sparse matrix whose indices are dam"
    ):
        read_graph(cells)


def test_neighbours_that_are_there_twice_and_in_any_order(cells: ad.AnnData) -> None:
    expected = read_graph(cells)
    rows, columns = expected.nonzero()
    order = np.lexsort((-np.r_[columns, columns], np.r_[rows, rows]))
    twice = csr_matrix(expected.shape, dtype=np.float32)
    twice.data = np.ones(2 * expected.nnz, dtype=np.float32)
    twice.indices, twice.indptr = np.r_[columns, columns][order].astype(np.int32), expected.indptr * 2
    cells.obsp["spatial_connectivities"] = twice
    found = read_graph(cells)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert cells.obsp["spatial_connectivities"].nnz == 2 * expected.nnz


def test_cells_that_are_their_own_neighbours(cells: ad.AnnData) -> None:
    """squidpy can be asked to write them: they are left out, and stay in the table."""
    expected = read_graph(cells)
    with_self = csr_matrix(cells.obsp["spatial_connectivities"] + csr_matrix(np.eye(50)))
    cells.obsp["spatial_connectivities"] = with_self
    found = read_graph(cells)
    assert (found != expected).nnz == 0
    assert found.nnz == expected.nnz
    assert cells.obsp["spatial_connectivities"].diagonal().sum() == 50


def test_a_graph_under_another_key(cells: ad.AnnData) -> None:
    cells.obsp["mine"] = cells.obsp.pop("spatial_connectivities")
    with pytest.raises(KeyError, match=r"connectivities_key='spatial_connectivities' is not a graph.*sd\.pp\.neighbor"):
        read_graph(cells)
    cells.uns["spatial_neighbors"]["connectivities_key"] = "mine"
    assert read_graph(cells).shape == (50, 50)


def test_a_column_that_is_gone(cells: ad.AnnData) -> None:
    del cells.obs["slide"]
    assert graph_library_key(cells) is None


def test_without_neighbourhoods(make_cells: Callable[..., ad.AnnData]) -> None:
    cells = make_cells(5)
    assert not has_graph(cells)
    assert graph_library_key(cells) is graph_split_key(cells) is graph_fingerprint(cells) is None
    with pytest.raises(
        KeyError, match=r"no \.uns\[.*spatial_neighbors.*where neighbourhoods are expected\. Run sd\.pp"
    ):
        graph_key(cells)


@pytest.mark.parametrize("radius", [None, 0.0, -3.0, "40", [20.0, 40.0], float("nan")])
def test_a_graph_without_a_radius(cells: ad.AnnData, radius: object) -> None:
    """As of the nearest six, or of a ring: neighbourhoods of models have one radius."""
    cells.uns["spatial_neighbors"]["params"]["radius"] = radius
    with pytest.raises(ValueError, match=r"records the radius .*; the neighbours within one radius are needed"):
        graph_radius(cells)
    del cells.uns["spatial_neighbors"]["params"]
    with pytest.raises(ValueError, match="records the radius None"):
        graph_radius(cells)


def test_the_fingerprint_goes_with_the_graph(cells: ad.AnnData) -> None:
    """It is not that of a graph that another program has put in its place."""
    mark = graph_fingerprint(cells)
    assert isinstance(mark, str)
    again = cells.copy()
    sd.pp.neighborhoods(again, radius_um=40, library_key="slide")
    assert graph_fingerprint(again) == mark
    sd.pp.neighborhoods(again, radius_um=50, library_key="slide")
    assert graph_fingerprint(again) not in (mark, None)
    cells.uns["spatial_neighbors"]["params"]["radius"] = 50.0
    assert graph_fingerprint(cells) is None


def test_centres_in_another_unit(cells: ad.AnnData) -> None:
    """What reads the neighbourhoods refuses them, pictures warn; turned and mirrored they are the same."""
    um = cells.obsm["spatial"]
    for same in (um, um[:, ::-1] * [1, -1], um * [-1, 1]):
        cells.obsm["spatial"] = same
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_other_unit(cells)
            read_graph(cells)
    cells.obsm["spatial"] = um / 0.2125
    with pytest.warns(
        UserWarning, match=r"further away than the graph's radius of 40\.0 µm.*Lengths in µm may be wrong"
    ):
        warn_of_other_unit(cells)
    with pytest.raises(
        ValueError, match=r"further away than the graph's radius of 40\.0 µm.*Make it again with sd\.pp"
    ):
        read_graph(cells)
    del cells.uns["spatial_neighbors"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_unit(cells)
