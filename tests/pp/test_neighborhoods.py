from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import spatialdata
import squidpy as sq
from scipy import ndimage
from scipy.spatial import cKDTree

import stdistill as sd


def test_same_as_squidpy(make_cells: Callable) -> None:
    cells = make_cells(3000, slide=np.repeat(["a", "b"], 1500))
    cells.obs["slide"] = cells.obs["slide"].astype("category")
    sd.pp.neighborhoods(cells, radius_um=40.0, library_key="slide")
    expected = sq.gr.spatial_neighbors_radius(cells, radius=40.0, library_key="slide", copy=True)
    assert (cells.obsp["spatial_connectivities"] != expected.connectivities).nnz == 0
    difference = abs(cells.obsp["spatial_distances"] - expected.distances)
    assert difference.max() < 1e-4


def test_squidpy_runs_on_it(make_cells: Callable) -> None:
    cells = make_cells(500)
    cells.obs["kind"] = np.random.default_rng(0).choice(["a", "b", "c"], 500)
    cells.obs["kind"] = cells.obs["kind"].astype("category")
    sd.pp.neighborhoods(cells, n_neighbors=10)
    sq.gr.nhood_enrichment(cells, cluster_key="kind", show_progress_bar=False, n_perms=10, seed=0)
    sq.gr.interaction_matrix(cells, cluster_key="kind")
    sq.gr.centrality_scores(cells, cluster_key="kind", show_progress_bar=False)
    assert cells.uns["kind_nhood_enrichment"]["zscore"].shape == (3, 3)


def test_mean_over_random_places(make_cells: Callable) -> None:
    cells = make_cells(20_000, extent=2000.0)
    sd.pp.neighborhoods(cells)
    radius = cells.uns["stdistill"]["neighborhoods"]["radius_um"]
    places = np.random.default_rng(7).uniform(0, 2000, (20_000, 2))
    counts = cKDTree(cells.obsm["spatial"]).query_ball_point(places, radius, return_length=True)
    assert counts.mean() == pytest.approx(50, rel=0.02)


def near_a_cell(centers: np.ndarray, places: np.ndarray) -> np.ndarray:
    return cKDTree(centers).query(places)[0] <= 30


def in_an_occupied_bin(centers: np.ndarray, places: np.ndarray) -> np.ndarray:
    occupied = set(map(tuple, np.floor(centers / 50).astype(int)))
    return np.array([tuple(place) in occupied for place in np.floor(places / 50).astype(int)])


def in_the_closing(centers: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Cells grown by 80 µm and shrunk again, on a raster of 5 µm."""
    origin = centers.min(axis=0) - 200
    empty = np.ones(((np.ptp(centers, axis=0) + 400) / 5).astype(int), dtype=bool)
    empty[tuple(((centers - origin) / 5).astype(int).T)] = False
    grown = ndimage.distance_transform_edt(empty) * 5 <= 80
    return (ndimage.distance_transform_edt(grown) * 5 > 80)[tuple(((places - origin) / 5).astype(int).T)]


@pytest.mark.parametrize("tissue", [near_a_cell, in_an_occupied_bin, in_the_closing])
def test_real_slide(shared_data: Path, tissue: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """50 neighbours within 2 % over random places in the tissue, whichever way the tissue is told from the rest."""
    with pytest.warns(UserWarning, match=r"no experiment\.xenium"):
        slide = sd.pp.read_xenium(shared_data / "xenium_mouse_brain")
    assert slide["table"].shape == (36_602, 248)
    sd.pp.neighborhoods(slide, n_neighbors=50)
    centers = slide["table"].obsm["spatial"]
    places = np.random.default_rng(99).uniform(centers.min(axis=0), centers.max(axis=0), (60_000, 2))
    places = places[tissue(centers, places)]
    radius = slide["table"].uns["spatial_neighbors"]["params"]["radius"]
    counts = cKDTree(centers).query_ball_point(places, radius, return_length=True)
    assert counts.mean() == pytest.approx(50, rel=0.02)


def test_split_groups_are_not_joined(make_cells: Callable) -> None:
    cells = make_cells(5000)
    sd.pp.split_strips(cells, crop_px=100, mpp=0.3)
    sd.pp.neighborhoods(cells, n_neighbors=20)
    split = cells.obs["split"].to_numpy()
    rows, columns = cells.obsp["spatial_connectivities"].nonzero()
    assert (split[rows] == split[columns]).all()
    assert "buffer" not in split[rows]
    assert set(split[rows]) == {"train", "test"}


def test_the_radius_comes_from_training_cells(make_cells: Callable) -> None:
    cells = make_cells(5000)
    split = np.where(cells.obsm["spatial"][:, 1] < 500, "train", "test")
    cells.obs["split"] = split
    sd.pp.neighborhoods(cells, n_neighbors=20)
    radius = cells.uns["spatial_neighbors"]["params"]["radius"]
    # Ten times as many test cells change nothing.
    more = make_cells(np.r_[cells.obsm["spatial"], np.random.default_rng(1).uniform(0, 1000, (5000, 2))])
    more.obs["split"] = np.r_[split, ["test"] * 5000]
    sd.pp.neighborhoods(more, n_neighbors=20)
    assert more.uns["spatial_neighbors"]["params"]["radius"] == radius


def test_cells_of_no_group_have_no_edges(make_cells: Callable) -> None:
    cells = make_cells(500)
    cells.obs["part"] = np.array(["train"] * 400 + [None] * 100, dtype=object)
    sd.pp.neighborhoods(cells, n_neighbors=10, split_key="part")
    assert cells.obsp["spatial_connectivities"][400:].nnz == 0
    assert cells.obsp["spatial_connectivities"][:400].nnz > 0


def test_regions_of_a_table_are_slides(make_slide: Callable) -> None:
    both = spatialdata.concatenate({"l": make_slide(200), "r": make_slide(200)}, concatenate_tables=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # cells at the same places of the two slides are not the same place
        sd.pp.neighborhoods(both, n_neighbors=20)
    graph = both["table"].obsp["spatial_connectivities"]
    assert graph[:200, 200:].nnz == 0
    assert (graph[:200, :200] != graph[200:, 200:]).nnz == 0


def test_keys_and_copy(make_slide: Callable) -> None:
    """There is one graph: the models read no other, and squidpy looks for it there."""
    slide = make_slide(300)
    copied = sd.pp.neighborhoods(slide, n_neighbors=10, copy=True)["table"]
    keys = {"connectivities_key": "spatial_connectivities", "distances_key": "spatial_distances"}
    assert set(copied.obsp) == set(keys.values())
    assert copied.uns["spatial_neighbors"].items() >= keys.items()
    assert set(copied.uns["stdistill"]["neighborhoods"]) == {
        "radius_um",
        "fingerprint",
        "mean_neighbors",
        "n_neighbors",
        "seed",
        "stdistill_version",
    }
    assert not slide["table"].obsp
    assert sd.pp.neighborhoods(slide, n_neighbors=10) is None
    assert set(slide["table"].obsp) == {"spatial_connectivities", "spatial_distances"}


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_results_survive_writing(make_cells: Callable, tmp_path: Path, suffix: str) -> None:
    cells = make_cells(300)
    sd.pp.split_strips(cells, crop_px=10, mpp=0.3)
    sd.pp.neighborhoods(cells, n_neighbors=10)
    path = tmp_path / f"cells.{suffix}"
    cells.write_h5ad(path) if suffix == "h5ad" else cells.write_zarr(path)
    again = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    assert (again.obsp["spatial_distances"] != cells.obsp["spatial_distances"]).nnz == 0
    assert again.uns["spatial_neighbors"]["params"]["radius"] == cells.uns["spatial_neighbors"]["params"]["radius"]
    assert again.obs["split"].tolist() == cells.obs["split"].tolist()


def test_cells_at_the_same_place(make_cells: Callable) -> None:
    centers = np.random.default_rng(0).uniform(0, 1000, (500, 2))
    cells = make_cells(np.r_[centers, centers])
    with pytest.warns(UserWarning, match=r"500 pairs of cells have the same centre.*library_key="):
        sd.pp.neighborhoods(cells, n_neighbors=20)
    assert cells.obsp["spatial_connectivities"][0, 500] == 1
    assert cells.obsp["spatial_distances"][0, 500] == 0


def test_an_implausible_radius(make_cells: Callable) -> None:
    with pytest.warns(UserWarning, match=r"Cells have 0\.0 neighbours within 0\.06 µm on average"):
        sd.pp.neighborhoods(make_cells(1000), radius_um=0.06)


def test_a_radius_that_catches_everything(make_cells: Callable) -> None:
    cells = make_cells(1000)
    with pytest.raises(ValueError, match="A radius of 60000 catches 100% of all pairs"):
        sd.pp.neighborhoods(cells, radius_um=60_000)
    assert not cells.obsp


def test_one_cell(make_cells: Callable) -> None:
    with pytest.raises(ValueError, match="n_neighbors=50, but the largest slide has 1"):
        sd.pp.neighborhoods(make_cells(1))
    cells = make_cells(1)
    with pytest.warns(UserWarning, match=r"0\.0 neighbours"):
        sd.pp.neighborhoods(cells, radius_um=60.0)
    assert cells.obsp["spatial_connectivities"].nnz == 0


def test_bad_arguments(make_cells: Callable, make_slide: Callable) -> None:
    cells = make_cells(100)
    for value in (0, -3):
        with pytest.raises(ValueError, match="n_neighbors must be at least 1"):
            sd.pp.neighborhoods(cells, n_neighbors=value)
    with pytest.raises(ValueError, match="radius_um must be positive"):
        sd.pp.neighborhoods(cells, radius_um=-1)
    with pytest.raises(ValueError, match="n_neighbors=500, but the largest slide has 100"):
        sd.pp.neighborhoods(cells, n_neighbors=500)
    with pytest.raises(ValueError, match="has no cells"):
        sd.pp.neighborhoods(cells[:0])
    with pytest.raises(KeyError, match=r"library_key='slide' is not a column of \.obs; there is: none"):
        sd.pp.neighborhoods(cells, library_key="slide")
    with pytest.raises(KeyError, match=r"split_key='parts' is not a column.*sd\.pp\.split_strips"):
        sd.pp.neighborhoods(cells, split_key="parts")
    with pytest.raises(KeyError, match="table_key='cells' is not a table"):
        sd.pp.neighborhoods(make_slide(), table_key="cells")
    cells.obs["slide"] = np.array(["a"] * 99 + [None], dtype=object)
    with pytest.raises(ValueError, match="names no slide for 1 cells"):
        sd.pp.neighborhoods(cells, library_key="slide")
    cells.obs["split"] = "test"
    with pytest.raises(ValueError, match="No cell is 'train'"):
        sd.pp.neighborhoods(cells)
    cells.obsm["spatial"][3] = np.nan
    with pytest.raises(ValueError, match=r"1 of 100 cells have a NaN or infinite centre \(cell-3\)"):
        sd.pp.neighborhoods(cells, radius_um=10)
    assert not cells.obsp
    assert not cells.uns


def test_a_nullable_column_as_split(make_cells: Callable) -> None:
    cells = make_cells(500)
    cells.obs["split"] = pd.array(["train"] * 400 + [pd.NA] * 100, dtype="string")
    sd.pp.neighborhoods(cells, n_neighbors=10)
    assert cells.obsp["spatial_connectivities"][400:].nnz == 0


def test_the_split_is_found_under_its_own_name(make_cells: Callable) -> None:
    cells = make_cells(2000)
    sd.pp.split_strips(cells, crop_px=100, mpp=0.3, key_added="fold")
    sd.pp.neighborhoods(cells, n_neighbors=10)
    fold = cells.obs["fold"].to_numpy()
    rows, columns = cells.obsp["spatial_connectivities"].nonzero()
    assert (fold[rows] == fold[columns]).all()
    assert cells.uns["spatial_neighbors"]["params"]["split_key"] == "fold"


def test_a_derived_radius_is_not_called_implausible(make_cells: Callable) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sd.pp.neighborhoods(make_cells(1000), n_neighbors=1)
