from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import squidpy as sq
from spatialdata import SpatialData

import stdistill as sd


@pytest.fixture(scope="module")
def slide(bundle: Path) -> SpatialData:
    """The left half is niche "A", the right half "B"; a student is the surer the further a cell is from the border."""
    slide = sd.pp.read_xenium(bundle, nucleus_boundaries=True)
    cells = slide["table"]
    x = cells.obsm["spatial"][:, 0]
    beyond = (x - np.median(x)) / 100
    cells.obs["student_niche"] = pd.Categorical(np.where(beyond < 0, "A", "B"))
    cells.obs["student_logit_0"], cells.obs["student_logit_1"] = -beyond, beyond
    cells.obs["student_confidence"] = 1 / (1 + np.exp(-2 * np.abs(beyond)))
    sd.pp.neighborhoods(slide, n_neighbors=12)
    return slide


@pytest.fixture(scope="module")
def one_type_apart(slide: SpatialData) -> tuple[ad.AnnData, str]:
    """Simulated cells at other places: niche "A" is like "B", but for one cell type that is in it alone.

    All cells of the other types are shuffled over both halves, so that these have the same mixture.
    """
    cells = slide["table"].copy()
    extra = str(cells.obs["cell_type"].value_counts().index[1])
    rng = np.random.default_rng(0)
    is_extra = (cells.obs["cell_type"] == extra).to_numpy()
    in_a = np.where(is_extra, True, rng.random(cells.n_obs) < 0.5)
    cells.obs["niche"] = pd.Categorical(np.where(in_a, "A", "B"))
    cells.obsm["spatial"] = rng.uniform(0, (300, 600), (cells.n_obs, 2)) + np.where(in_a, 0, 300)[:, None] * [1, 0]
    sd.pp.neighborhoods(cells, n_neighbors=12)
    return cells, extra


@pytest.mark.parametrize("how", [{"n_neighs": 6}, {"delaunay": True}])
@pytest.mark.filterwarnings("ignore:Calling `spatial_neighbors`:FutureWarning")
def test_neighbors_that_are_not_within_one_radius(slide: SpatialData, how: dict[str, object]) -> None:
    """Those of squidpy stand under the same keys, and borders by them would be others."""
    cells = slide["table"].copy()
    assert len(sd.tl.niche_profile(cells, niche_key="student_niche").neighbors)
    sq.gr.spatial_neighbors(cells, coord_type="generic", **how)
    found = sd.tl.niche_profile(cells, niche_key="student_niche")
    assert found.neighbors.empty
    assert "records the radius None; the neighbours within one radius are needed" in found.absent["neighbors"]
    assert len(found.markers) > 0


def test_what_sets_a_niche_apart_is_named(one_type_apart: tuple[ad.AnnData, str]) -> None:
    cells, extra = one_type_apart
    profile = sd.tl.niche_profile(cells, niche_key="niche")
    of_a = profile["A"].cell_types
    assert of_a["cell_type"].iloc[0] == extra
    assert of_a["log2_enrichment"].iloc[1] < of_a["log2_enrichment"].iloc[0] / 2
    assert profile.names["A"].startswith(extra)
    assert profile["B"].cell_types.set_index("cell_type").loc[extra, "n_cells"] == 0

    # Its markers are the genes that the type has more of than all other types, found without the niches.
    counts = cells.to_df()
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    is_extra = (cells.obs["cell_type"] == extra).to_numpy()
    ratio = (shares[is_extra].mean() + 1e-4) / (shares[~is_extra].mean() + 1e-4)
    its_own = set(ratio.nlargest(20).index)
    assert len(its_own & set(profile["A"].markers["gene"].head(5))) >= 4
    assert not its_own & set(profile["B"].markers.query("q < 0.05")["gene"].head(5))


def test_every_part_has_every_niche(slide: SpatialData) -> None:
    profile = sd.tl.niche_profile(slide, niche_key="student_niche", n_cells=4)
    assert profile.absent == {}
    for part in ("summary", "markers", "cell_types", "morphology", "neighbors", "cells"):
        assert list(getattr(profile, part)["niche"].unique()) == ["A", "B"], part
    assert profile.summary["n_cells"].sum() == 800
    assert profile.summary["share"].sum() == pytest.approx(1)
    assert set(profile.sources) == set(profile.morphology["measure"])
    assert profile.sources["eccentricity"] == "outlines 'nucleus_boundaries'"


def test_nothing_is_written(slide: SpatialData) -> None:
    cells = slide["table"]
    before = cells.copy()
    sd.tl.niche_profile(slide, niche_key="student_niche")
    assert list(cells.obs) == list(before.obs)
    assert set(cells.uns) == set(before.uns)
    assert (cells.X != before.X).nnz == 0
    pd.testing.assert_frame_equal(cells.obs, before.obs)


def test_morphology_is_that_of_the_simulated_nuclei(slide: SpatialData, bundle: Path) -> None:
    """Areas are those that Xenium writes for cells of one nucleus; the haematoxylin is that of the H&E."""
    profile = sd.tl.niche_profile(slide, niche_key="student_niche")
    cells = slide["table"].obs
    one = cells[(cells["student_niche"] == "A") & (cells["nucleus_count"] == 1)]
    row = profile["A"].morphology.set_index("measure")
    assert row.loc["area_um2", "median"] == pytest.approx(one["nucleus_area"].median(), rel=0.1)
    assert 0.2 < row.loc["haematoxylin", "median"] < 3
    assert 0 < row.loc["eccentricity", "median"] < 1
    assert 500 < row.loc["density_per_mm2", "median"] < 15_000


def test_neighbours_are_those_of_the_graph(slide: SpatialData) -> None:
    cells = slide["table"]
    graph = cells.obsp["spatial_connectivities"].tocoo()
    niche = cells.obs["student_niche"].to_numpy()
    across = (niche[graph.row] == "A") & (niche[graph.col] == "B")
    row = sd.tl.niche_profile(slide, niche_key="student_niche")["A"].neighbors.iloc[0]
    assert row["neighbor"] == "B"
    assert row["n_pairs"] == across.sum()
    assert row["share"] == pytest.approx(across.sum() / (niche[graph.row] == "A").sum())
    assert row["border_share"] == 1


def test_typical_cells_are_far_from_the_border_and_borderline_cells_near(slide: SpatialData) -> None:
    cells = slide["table"]
    x = pd.Series(cells.obsm["spatial"][:, 0], cells.obs_names)
    found = sd.tl.niche_profile(slide, niche_key="student_niche", n_cells=4)["A"].cells
    assert found["kind"].value_counts().to_dict() == {"typical": 4, "borderline": 4}
    far, near = (x[found.loc[found["kind"] == kind, "cell"]] for kind in ("typical", "borderline"))
    assert far.max() < x[cells.obs["student_niche"] == "A"].quantile(0.5)
    assert near.min() > x[cells.obs["student_niche"] == "A"].quantile(0.5)
    assert (found["second"] == "B").all()
    row = found.iloc[0]
    expected = 2 * abs(x[row["cell"]] - x.median()) / 100
    assert row["margin"] == pytest.approx(expected, rel=1e-4)
    assert row["confidence"] == pytest.approx(1 / (1 + np.exp(-expected)), rel=1e-4)


def test_markers_are_of_the_training_cells(one_type_apart: tuple[ad.AnnData, str]) -> None:
    cells = one_type_apart[0].copy()
    top = np.arange(cells.n_obs) % 2 == 0
    cells.obs["split"] = pd.Categorical(np.where(top, "train", "test"))
    found = sd.tl.niche_profile(cells, niche_key="niche")
    assert found.summary["n_training"].sum() <= top.sum()
    assert found.summary["n_cells"].sum() == cells.n_obs
    alone = sd.tl.niche_profile(cells[top].copy(), niche_key="niche", split_key=None)
    pd.testing.assert_frame_equal(found.markers, alone.markers)
    assert not found.markers.equals(sd.tl.niche_profile(cells, niche_key="niche", split_key=None).markers)


def test_a_slide_of_he_alone(make_cells: Callable[..., ad.AnnData]) -> None:
    """Nuclei as sd.pp.detect_nuclei writes them, with niches of a student: no counts, no types, no image."""
    rng = np.random.default_rng(0)
    size = rng.uniform(20, 60, 200)
    cells = make_cells(area_um2=size, eccentricity=0.3, solidity=0.9, haematoxylin=rng.uniform(0.5, 1, 200))
    nuclei = ad.AnnData(obs=cells.obs, obsm={"spatial": cells.obsm["spatial"]})
    nuclei.obs["student_niche"] = pd.Categorical(np.where(size > 40, "large", "small"))
    profile = sd.tl.niche_profile(nuclei, niche_key="student_niche")
    assert set(profile.absent) == {"markers", "cell_types", "neighbors", "cells"}
    assert profile.absent["markers"] == "the table has no counts"
    row = profile["large"].morphology.set_index("measure").loc["area_um2"]
    assert row["median"] > 45
    assert row["difference"] > 0.3
    assert profile.names == {}
    assert "No markers: the table has no counts" in str(profile)


def test_normalised_values_are_no_counts(one_type_apart: tuple[ad.AnnData, str]) -> None:
    cells = one_type_apart[0].copy()
    cells.layers["raw"] = cells.X.copy()
    cells.X = cells.X.log1p()
    found = sd.tl.niche_profile(cells, niche_key="niche")
    assert found.markers.empty
    assert "which is no count" in found.absent["markers"]
    assert len(sd.tl.niche_profile(cells, niche_key="niche", layer="raw").markers)
    cells.layers["logs"] = cells.X
    with pytest.raises(ValueError, match="markers need raw counts"):
        sd.tl.niche_profile(cells, niche_key="niche", layer="logs")


def test_cells_without_a_niche_belong_to_none(one_type_apart: tuple[ad.AnnData, str]) -> None:
    cells = one_type_apart[0].copy()
    cells.obs["niche"] = cells.obs["niche"].where(np.arange(cells.n_obs) % 3 > 0)
    cells.obs["niche"] = cells.obs["niche"].cat.add_categories("empty")
    profile = sd.tl.niche_profile(cells, niche_key="niche")
    assert profile.summary["n_cells"].tolist() == [*cells.obs["niche"].value_counts()[["A", "B"]], 0]
    assert profile.cell_types["n_cells"].sum() == (cells.obs["niche"].notna() & cells.obs["cell_type"].notna()).sum()
    assert "empty" not in profile.names


def test_names_can_be_given(one_type_apart: tuple[ad.AnnData, str]) -> None:
    cells, extra = one_type_apart[0].copy(), one_type_apart[1]
    names = sd.tl.niche_profile(cells, niche_key="niche").names
    cells.obs["niche"] = cells.obs["niche"].cat.rename_categories(names)
    assert cells.obs["niche"].cat.categories[0].startswith(extra)


def test_what_is_wrong_is_said(slide: SpatialData) -> None:
    with pytest.raises(KeyError, match=r"niche_key='no' is not a column of \.obs"):
        sd.tl.niche_profile(slide, niche_key="no")
    with pytest.raises(KeyError, match=r"cell_type_key='no' is not a column of \.obs"):
        sd.tl.niche_profile(slide, niche_key="student_niche", cell_type_key="no")
    with pytest.raises(TypeError, match="expected a categorical column"):
        sd.tl.niche_profile(slide, niche_key="nucleus_area")
    with pytest.raises(ValueError, match="n_markers must be at least 1, found 0"):
        sd.tl.niche_profile(slide, niche_key="student_niche", n_markers=0)
    with pytest.raises(KeyError, match="split"):
        sd.tl.niche_profile(slide, niche_key="student_niche", split_key="halves")


def test_an_image_that_the_cells_are_not_placed_on(slide: SpatialData) -> None:
    """A table that annotates nothing: where its cells lie on the H&E is not known."""
    from spatialdata.models import TableModel

    cells = slide["table"].copy()
    del cells.uns["spatialdata_attrs"]
    loose = SpatialData.init_from_elements({"he": slide["he"], "table": TableModel.parse(cells)})
    profile = sd.tl.niche_profile(loose, niche_key="student_niche")
    assert "haematoxylin" in profile.absent
    assert profile.sources["area_um2"] == ".obs['nucleus_area']"
    with pytest.raises((KeyError, ValueError)):
        sd.tl.niche_profile(loose, niche_key="student_niche", coordinate_system="global")
