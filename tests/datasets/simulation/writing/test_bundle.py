"""Bundles of every layout, as users read them, and the truth beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import zarr
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from tests.datasets.conftest import SimulatedSlide

N_CELLS = 700
PIXEL_SIZE_UM = 0.2125
VERSIONS = ("1.0.2", "1.7.6", "2.0.0", "3.0.0", "4.0.0")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_layout_reads_without_a_warning(bundles: dict[str, SimulatedSlide], version: str) -> None:
    sdata = bundles[version].sdata
    images = {"he_image", "morphology_focus"}
    if version < "2":
        images.add("morphology_mip")
    assert set(sdata.images) == images
    assert set(sdata.labels) == {"cell_labels", "nucleus_labels"}
    assert set(sdata.shapes) == {"cell_boundaries", "nucleus_boundaries"}
    assert sdata["table"].n_obs == N_CELLS
    assert len(sdata["cell_boundaries"]) == N_CELLS
    assert sdata["cell_boundaries"].is_valid.all()


@pytest.mark.parametrize("version", VERSIONS)
def test_identifiers_agree_across_files(bundles: dict[str, SimulatedSlide], version: str) -> None:
    slide, path = bundles[version], bundles[version].path
    cells = slide.cells
    matrix = sc.read_10x_h5(path / "cell_feature_matrix.h5", gex_only=False)
    assert cells["cell_id"].is_unique
    assert matrix.obs_names.tolist() == cells["cell_id"].astype(str).tolist()
    assert pd.read_csv(path / "cells.csv.gz")["cell_id"].tolist() == cells["cell_id"].tolist()
    boundaries = pd.read_parquet(path / "cell_boundaries.parquet")
    assert boundaries["cell_id"].drop_duplicates().tolist() == cells["cell_id"].tolist()
    assert set(pd.read_parquet(path / "transcripts.parquet")["cell_id"]) <= set(cells["cell_id"])
    assert slide.truth["cell_id"].tolist() == cells["cell_id"].tolist()


def test_identifiers_are_whole_numbers_in_the_oldest_layout(bundles: dict[str, SimulatedSlide]) -> None:
    ids = bundles["1.0.2"].cells["cell_id"]
    assert ids.tolist() == list(range(1, N_CELLS + 1))
    ids = bundles["1.7.6"].cells["cell_id"]
    assert ids.str.fullmatch("[a-p]{8}-1").all()


def test_table_has_what_users_expect(outs: SimulatedSlide) -> None:
    adata = outs.sdata["table"]
    np.testing.assert_allclose(adata.obsm["spatial"], outs.centroids)
    assert {"cell_area", "nucleus_area", "transcript_counts", "nucleus_count", "z_level"} <= set(adata.obs)
    assert 180 <= adata.n_vars <= 260
    assert {"EPCAM", "CD3D"} & set(adata.var_names)
    assert (adata.var["feature_types"] == "Gene Expression").all()


@pytest.mark.parametrize("version", VERSIONS)
def test_experiment_names_files_that_exist(bundles: dict[str, SimulatedSlide], version: str) -> None:
    path = bundles[version].path
    specs = json.loads((path / "experiment.xenium").read_text())
    assert specs["pixel_size"] == PIXEL_SIZE_UM
    assert specs["num_cells"] == N_CELLS
    assert specs["analysis_sw_version"].startswith(f"xenium-{version}")
    for name in (*specs["images"].values(), *specs["xenium_explorer_files"].values()):
        assert (path / name).is_file()


def test_layouts_differ_where_real_ones_do(bundles: dict[str, SimulatedSlide]) -> None:
    groups = {}
    for version, slide in bundles.items():
        with zarr.storage.ZipStore(slide.path / "cells.zarr.zip", read_only=True) as store:
            groups[version] = set(zarr.open(store, mode="r"))
    common = {"cell_id", "cell_summary", "masks"}
    assert groups["1.0.2"] == common
    assert groups["1.7.6"] == common | {"seg_mask_value"}
    assert groups["2.0.0"] == groups["3.0.0"] == groups["4.0.0"] == common | {"polygon_sets"}
    assert "label_id" not in pd.read_parquet(bundles["1.7.6"].path / "cell_boundaries.parquet")
    assert "label_id" in pd.read_parquet(bundles["2.0.0"].path / "cell_boundaries.parquet")
    assert (bundles["1.7.6"].path / "morphology_mip.ome.tif").is_file()
    assert (bundles["4.0.0"].path / "morphology_focus" / "ch0000_dapi.ome.tif").is_file()
    assert bundles["4.0.0"].sdata["morphology_focus"]["scale0"].c.values.tolist() == ["DAPI"]


def test_truth_lies_beside_the_bundle(outs: SimulatedSlide) -> None:
    truth = outs.truth
    assert truth.columns.tolist() == ["cell_id", "niche", "cell_type"]
    assert len(truth) == N_CELLS
    assert not list(outs.path.rglob("*truth*"))


def test_no_reader_sees_a_niche(bundles: dict[str, SimulatedSlide]) -> None:
    names = set().union(*(slide.truth["niche"] for slide in bundles.values()))
    for slide in bundles.values():
        adata = slide.sdata["table"]
        assert not [column for column in adata.obs if "niche" in column.lower()]
        for column in adata.obs.select_dtypes(["object", "category", "string"]):
            assert not names & set(adata.obs[column].astype(str))
        for file in slide.path.glob("*.parquet"):
            assert not [c for c in pd.read_parquet(file).columns if "niche" in c.lower()]
        assert "niche" not in (slide.path / "experiment.xenium").read_text()


def test_identifiers_do_not_tell_the_niche(outs: SimulatedSlide) -> None:
    """Cells of one niche are not numbered in one run."""
    niche = outs.truth["niche"]
    assert (niche != niche.shift()).sum() > 3 * niche.nunique()


def test_niches_are_domains_of_mixed_types(simulate: Callable[..., SimulatedSlide]) -> None:
    slide = simulate(n_cells=3000, seed=7)
    truth = slide.truth
    neighbours = cKDTree(slide.centroids).query(slide.centroids, k=9)[1][:, 1:]
    niche, cell_type = truth["niche"].to_numpy(), truth["cell_type"].to_numpy()
    assert np.mean(niche[neighbours] == niche[:, None]) > 0.75
    assert np.mean(cell_type[neighbours] == cell_type[:, None]) < 0.6
    shares = pd.crosstab(truth["niche"], truth["cell_type"], normalize="index").max(axis=1)
    assert shares.median() < 0.9
