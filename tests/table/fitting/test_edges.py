"""Neighbourhoods that were made for cells as they are no longer divided."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import pytest

from stdistill import pp, tl
from stdistill._table.fitting.inputs import niche_inputs

FAST = {"width": 16, "depth": 1, "max_epochs": 1, "progress_bar": False, "accelerator": "cpu"}


@pytest.fixture
def cells(make_cells: Callable[..., ad.AnnData]) -> ad.AnnData:
    cells = make_cells(600, extent=500.0)
    cells.obsm["X_he"] = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    cells.obs["label"] = np.where(cells.obsm["spatial"][:, 0] < 250, "a", "b")
    pp.split_strips(cells, crop_px=60, mpp=1.0)
    pp.neighborhoods(cells, n_neighbors=12)
    return cells


def gather(cells: ad.AnnData, split_key: str | None = "split") -> None:
    niche_inputs([cells], use_rep="X_he", library_key=None, split_key=split_key)


def test_no_split_on_a_graph_made_with_one(cells: ad.AnnData) -> None:
    """Cells of the buffer would be taken for cells that have no neighbours."""
    n_buffer = (cells.obs["split"] == "buffer").sum()
    message = rf"{n_buffer} cells have no neighbours.*\.obs\['split'\].*neighborhoods\(split_key=None\)"
    for use in (
        lambda: tl.distill(cells, teacher_key="label", split_key=None, **FAST),
        lambda: tl.nolan(cells, k=2, use_rep="X_he", split_key=None, **FAST),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    model = tl.distill(cells, teacher_key="label", **FAST)
    with pytest.raises(ValueError, match=message):
        tl.predict(cells, model, split_key=None)
    del cells.obs["split"]  # which is the same
    with pytest.raises(ValueError, match=message):
        tl.predict(cells, model)
    pp.neighborhoods(cells, radius_um=model.radius_um)
    tl.predict(cells, model)


def test_a_graph_of_another_split(cells: ad.AnnData) -> None:
    for split in ({"crop_px": 20}, {"crop_px": 60, "test_strip": 3}):
        pp.split_strips(cells, mpp=1.0, **split)
        with pytest.raises(ValueError, match=r"joins cells of different|others within its radius"):
            gather(cells)
    pp.split_strips(cells, crop_px=20, mpp=1.0)  # whose groups are larger, so that no edge joins two
    with pytest.raises(ValueError, match=r"others within its radius.*neighborhoods\(split_key='split'\)"):
        gather(cells)


def test_cells_that_are_alone_are_no_sign(cells: ad.AnnData) -> None:
    """Far from all others, or since their neighbours were filtered out."""
    cells.obsm["spatial"][:3] += 1e4 * np.arange(1, 4)[:, None]
    pp.neighborhoods(cells, n_neighbors=12)
    gather(cells)
    alone = cells[np.arange(600) % 7 == 0].copy()
    assert (np.diff(alone.obsp["spatial_connectivities"].indptr) == 0).any()
    gather(alone)


def test_no_cell_of_the_buffer_is_left(cells: ad.AnnData) -> None:
    gather(cells[cells.obs["split"] == "train"].copy(), split_key=None)


def test_slides_that_lie_over_one_another(cells: ad.AnnData) -> None:
    """A lonely cell has others of its group within the radius, and they are of another slide."""
    cells.obs["slide"] = np.where(np.arange(600) == 7, "lonely", "crowd")
    pp.neighborhoods(cells, n_neighbors=12, library_key="slide")
    gather(cells)


def test_a_graph_of_squidpy(cells: ad.AnnData) -> None:
    """It records no split, and may keep cells apart for reasons of its own."""
    import squidpy as sq

    sq.gr.spatial_neighbors(cells, coord_type="generic", radius=30.0, library_key=None)
    cells.uns["spatial_neighbors"]["params"]["radius"] = 30.0
    graph = cells.obsp["spatial_connectivities"].tolil()
    graph[5], graph[:, 5] = 0, 0
    cells.obsp["spatial_connectivities"] = graph.tocsr()
    gather(cells, split_key=None)


@pytest.mark.parametrize("what", ["order", "scale", "half"])
def test_a_graph_of_other_places(cells: ad.AnnData, what: str) -> None:
    """A table that was put together anew with the old graph, and centres that changed since."""
    rng = np.random.default_rng(0)
    if what == "order":
        rows = rng.permutation(cells.n_obs)
        kept = {key: value[rows] for key, value in cells.obsm.items()}
        cells = ad.AnnData(cells.X[rows], obs=cells.obs.iloc[rows], obsm=kept, uns=cells.uns, obsp=dict(cells.obsp))
    elif what == "scale":
        cells.obsm["spatial"] = cells.obsm["spatial"] * 4
    else:
        some = rng.permutation(cells.n_obs)[::2]
        cells.obsm["spatial"][some] = cells.obsm["spatial"][rng.permutation(some)]
    with pytest.raises(ValueError, match=r"further away than the graph's radius.*sd\.pp\.neighborhoods"):
        gather(cells)


def test_centres_that_shrank_since(cells: ad.AnnData) -> None:
    """As when pixels become µm after the neighbourhoods were made: those of the radius are not all there."""
    gather(cells)
    cells.obsm["spatial"] = cells.obsm["spatial"] * 0.2738
    with pytest.raises(ValueError, match=r"No neighbour lies further away than .* µm, and the graph's radius is"):
        gather(cells)


def test_neighbours_that_went_with_cells_taken_away(cells: ad.AnnData) -> None:
    """A tenth of 600 cells, of which each had 12 neighbours, has about one each."""
    with pytest.warns(UserWarning, match=r"Cells have [01]\.\d neighbours on average; they had 1\d\.\d when"):
        gather(cells[::10].copy())


def test_a_part_that_is_cut_out_and_cells_of_low_quality_keep_their_neighbours(cells: ad.AnnData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gather(cells[cells.obsm["spatial"][:, 0] < 200].copy())
        gather(cells[np.random.default_rng(0).random(cells.n_obs) < 0.8].copy())
