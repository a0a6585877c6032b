from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix, eye_array
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import stdistill as sd

FAST: dict[str, Any] = {"width": 16, "depth": 1, "max_epochs": 2, "progress_bar": False}


@pytest.fixture
def make_tissue(make_cells: Callable[..., ad.AnnData]) -> Callable[..., ad.AnnData]:
    """Three bands of tissue, told by expression and H&E in noise; every seventh cell has no H&E."""

    def make(seed: int = 0) -> ad.AnnData:
        cells = make_cells(600, extent=2400.0, seed=seed)
        rng = np.random.default_rng(seed)
        band = (cells.obsm["spatial"][:, 0] // 800).astype(int)
        cells.obs["band"] = pd.Categorical(band.astype(str))
        cells.obsm["X_scVI"] = (np.eye(3)[band] + rng.normal(0, 0.5, (600, 3))).astype("float32")
        cells.obsm["X_he"] = (np.eye(3)[band] * 40 + rng.normal(0, 20, (600, 3))).astype("float16")
        cells.obsm["X_he"][::7] = np.nan
        sd.pp.split_strips(cells, mpp=0.1)
        sd.pp.neighborhoods(cells, radius_um=180)
        return cells

    return make


@pytest.fixture
def tissue(make_tissue: Callable[..., ad.AnnData]) -> ad.AnnData:
    return make_tissue()


def test_what_is_written(tissue: ad.AnnData) -> None:
    assert sd.tl.kmeans_niches(tissue, k=3) is None
    obs, record = tissue.obs, tissue.uns["stdistill"]["kmeans_niches"]
    told = obs["split"].isin(["train", "test"])
    logits = sd.get.logits(tissue, "kmeans").to_numpy()
    np.testing.assert_array_equal(np.isfinite(logits).all(axis=1), told)
    assert (logits[told] <= 0).all()
    assert obs["kmeans_niche"].isna().equals(~told)
    assert obs["kmeans_niche"][told].astype(int).tolist() == logits[told].argmax(axis=1).tolist()
    assert obs["kmeans_confidence"][told].between(1 / 3, 1).all()
    assert obs["kmeans_fitted"].equals(obs["split"] == "train")
    assert len(tissue.uns["kmeans_niche_colors"]) == 3
    assert (record["k"], record["use_rep"], record["seed"]) == (3, "X_scVI", 0)
    assert record["n_training_cells"] == (obs["split"] == "train").sum()
    assert record["radius_um"] == 180
    assert record["sigma"] > 0
    assert adjusted_rand_score(obs["band"][told], obs["kmeans_niche"][told]) > 0.7


def test_without_a_split_it_is_scikit_learns(tissue: ad.AnnData) -> None:
    """K-means of the means over each cell and its neighbours, of standardised features."""
    del tissue.obs["split"]
    sd.pp.neighborhoods(tissue, radius_um=180)
    sd.tl.kmeans_niches(tissue, k=3)
    graph = csr_matrix(tissue.obsp["spatial_connectivities"] + eye_array(600))
    features = tissue.obsm["X_scVI"]
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    means = graph @ features / np.asarray(graph.sum(axis=1)).reshape(-1, 1)
    theirs = KMeans(3, n_init=10, random_state=1).fit_predict(means)
    assert adjusted_rand_score(theirs, tissue.obs["kmeans_niche"]) > 0.98
    assert tissue.obs["kmeans_fitted"].all()


def test_it_teaches_a_student(tissue: ad.AnnData) -> None:
    """By logits or by labels, under its names and colours, and only as long as it has seen no test cell."""
    sd.tl.kmeans_niches(tissue, k=3)
    student = sd.tl.distill(tissue, k=3, teacher_key="kmeans", **FAST)
    assert student.card.teacher == "kmeans"
    assert student.card.temperature is not None
    assert tissue.uns["student_niche_colors"].tolist() == tissue.uns["kmeans_niche_colors"].tolist()
    taught_by = tissue.uns["stdistill"]["distill"]["teacher"]
    assert taught_by == tissue.uns["stdistill"]["kmeans_niches"]["fingerprint"]
    assert len(sd.tl.agreement(tissue, reference_key="kmeans_niche", keys="student_niche")) == 2
    tissue.obs["split"] = tissue.obs["split"].cat.rename_categories({"train": "test", "test": "train"})
    with pytest.raises(ValueError, match=r"had a part in fitting the teacher 'kmeans'.*Run .*sd\.tl\.kmeans_niches"):
        sd.tl.distill(tissue, k=3, teacher_key="kmeans", **FAST)


def test_test_cells_have_no_part_in_it(tissue: ad.AnnData) -> None:
    other = tissue.copy()
    tested = (other.obs["split"] == "test").to_numpy()
    other.obsm["X_scVI"][tested] += 100
    for cells in (tissue, other):
        sd.tl.kmeans_niches(cells, k=3)
    trained = (tissue.obs["split"] == "train").to_numpy()
    np.testing.assert_array_equal(sd.get.logits(tissue, "kmeans")[trained], sd.get.logits(other, "kmeans")[trained])


def test_niches_of_the_he_alone(tissue: ad.AnnData) -> None:
    """Cells without features are no part of anything."""
    sd.tl.kmeans_niches(tissue, k=3, use_rep="X_he", key_added="he_kmeans")
    known = np.isfinite(tissue.obsm["X_he"]).all(axis=1) & tissue.obs["split"].isin(["train", "test"]).to_numpy()
    np.testing.assert_array_equal(tissue.obs["he_kmeans_niche"].notna(), known)
    assert tissue.uns["stdistill"]["kmeans_niches_he_kmeans"]["use_rep"] == "X_he"
    assert adjusted_rand_score(tissue.obs["band"][known], tissue.obs["he_kmeans_niche"][known]) > 0.6


def test_several_slides_have_the_same_niches(make_tissue: Callable[..., ad.AnnData]) -> None:
    slides = [make_tissue(seed) for seed in (0, 1)]
    sd.tl.kmeans_niches(slides, k=3)
    models = {slide.obs["kmeans_model"].cat.categories[0] for slide in slides}
    assert len(models) == 1
    niches = [slide.obs.groupby("band", observed=True)["kmeans_niche"].agg(lambda x: x.mode()[0]) for slide in slides]
    assert niches[0].equals(niches[1])
    sd.tl.distill(slides, k=3, teacher_key="kmeans", **FAST)
    sd.tl.kmeans_niches(slides[0], k=3)
    with pytest.raises(ValueError, match="'kmeans' is another one in each"):
        sd.tl.distill(slides, k=3, teacher_key="kmeans", **FAST)


def test_same_seed_same_niches_also_from_disk(tissue: ad.AnnData, tmp_path: Path) -> None:
    tissue.write_h5ad(tmp_path / "cells.h5ad")
    sd.tl.kmeans_niches(tissue, k=3)
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    sd.tl.kmeans_niches(again, k=3)
    pd.testing.assert_frame_equal(again.obs, tissue.obs)
    again.write_h5ad(tmp_path / "again.h5ad")
    assert ad.read_h5ad(tmp_path / "again.h5ad").uns["stdistill"]["kmeans_niches"]["k"] == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"key_added": ""}, ValueError, "key_added"),
        ({"use_rep": "X_pca"}, KeyError, "use_rep='X_pca' is not features"),
        ({"k": 599}, ValueError, r"\d+ cells can be fitted on, for k=599 niches"),
        ({"split_key": "fold"}, KeyError, "split_key='fold'"),
    ],
)
def test_bad_input(tissue: ad.AnnData, arguments: dict, error: type[Exception], message: str) -> None:
    columns = tissue.obs.columns.tolist()
    with pytest.raises(error, match=message):
        sd.tl.kmeans_niches(tissue, **arguments)
    assert tissue.obs.columns.tolist() == columns
