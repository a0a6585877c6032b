from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import stdistill as sd


@pytest.fixture
def tissue(make_cells: Callable[..., ad.AnnData]) -> ad.AnnData:
    """Three bands of tissue, of which the H&E shows something, with a pathologist's names for two of them."""
    cells = make_cells(700, extent=2400.0)
    rng = np.random.default_rng(0)
    band = (cells.obsm["spatial"][:, 0] // 800).astype(int)
    cells.obs["band"] = pd.Categorical(np.array(["stroma", "tumour", "fat"])[band])
    cells.obs["region"] = cells.obs["band"].where(cells.obs["band"] != "fat")
    cells.obsm["X_he"] = np.c_[np.eye(3)[band] * 3, np.zeros((700, 7))] + rng.normal(0, 1.2, (700, 10))
    cells.obsm["X_he"] = cells.obsm["X_he"].astype("float16")
    sd.pp.split_strips(cells, mpp=0.1)
    sd.pp.neighborhoods(cells, radius_um=180)
    return cells


def test_labels(tissue: ad.AnnData) -> None:
    """A column of labels is learned under its names; what is not labelled is not fitted on, but told."""
    sd.tl.logistic_niches(tissue, teacher_key="region")
    obs, record = tissue.obs, tissue.uns["stdistill"]["logistic_niches"]
    told = obs["split"].isin(["train", "test"])
    assert set(obs["logistic_niche"].cat.categories) == {"stroma", "tumour"}
    assert obs["logistic_niche"].isna().equals(~told)
    assert obs["logistic_fitted"].equals((obs["split"] == "train") & obs["region"].notna())
    probabilities = np.exp(sd.get.logits(tissue, "logistic")[told])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(obs["logistic_confidence"][told], probabilities.max(axis=1), atol=1e-5)
    assert record["teacher_key"] == "region"
    assert record["inverse_penalty"] in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    assert len(record["teacher"]) == 16  # by which labels that are changed are told
    assert record["n_cells"] == tissue.n_obs
    test = (obs["split"] == "test") & obs["region"].notna()
    assert adjusted_rand_score(obs["region"][test], obs["logistic_niche"][test]) > 0.8


def test_a_teachers_niches(tissue: ad.AnnData) -> None:
    """With logits, names, colours and provenance; a teacher that was fitted again is another one."""
    tissue.obsm["X_scVI"] = tissue.obsm["X_he"][:, :3].astype("float32")
    sd.tl.kmeans_niches(tissue, k=3)
    tissue.obs["kmeans_niche"] = tissue.obs["kmeans_niche"].cat.rename_categories(["a", "b", "c"])
    tissue.uns["kmeans_niche_colors"] = np.array(["#ff0000", "#00ff00", "#0000ff"], dtype=object)
    sd.tl.logistic_niches(tissue, teacher_key="kmeans")
    assert tissue.obs["logistic_niche"].cat.categories.tolist() == ["a", "b", "c"]
    assert tissue.uns["logistic_niche_colors"].tolist() == ["#ff0000", "#00ff00", "#0000ff"]
    record = tissue.uns["stdistill"]["logistic_niches"]
    assert record["teacher"] == tissue.uns["stdistill"]["kmeans_niches"]["fingerprint"]
    found = sd.tl.agreement(tissue, reference_key="kmeans_niche", keys="logistic_niche").set_index("split")
    assert found.loc["test", "ari"] > 0.5
    sd.tl.kmeans_niches(tissue, k=2)
    with pytest.raises(ValueError, match="taught by another 'kmeans_niche'"):
        sd.tl.agreement(tissue, reference_key="kmeans_niche", keys="logistic_niche")


def test_test_cells_have_no_part_in_it(tissue: ad.AnnData) -> None:
    other = tissue.copy()
    tested = (other.obs["split"] == "test").to_numpy()
    other.obsm["X_he"][tested] += 50
    other.obs["band"] = other.obs["band"].where(~tested, "fat")
    for cells in (tissue, other):
        sd.tl.logistic_niches(cells, teacher_key="band")
    trained = (tissue.obs["split"] == "train").to_numpy()
    np.testing.assert_array_equal(sd.get.logits(tissue, "logistic")[trained], sd.get.logits(other, "logistic")[trained])


def test_several_slides(tissue: ad.AnnData) -> None:
    """Are learned from together; one that is labelled teaches another that is not."""
    other = tissue.copy()
    other.obsm["X_he"] = (other.obsm["X_he"] + np.float16(0.1)).astype("float16")
    other.obsm["spatial"] = other.obsm["spatial"] + 1
    other.obs["band"] = other.obs["band"].where(other.obs["band"] == "none")
    sd.tl.logistic_niches([tissue, other], teacher_key="band")
    assert other.obs["logistic_niche"].notna().any()
    assert not other.obs["logistic_fitted"].any()
    assert tissue.obs["logistic_model"].iloc[0] == other.obs["logistic_model"].iloc[0]


def test_by_slide_another_stain_is_not_seen(tissue: ad.AnnData) -> None:
    """Of features that a stain moved and stretched for all cells alike, the same is told."""
    other = tissue.copy()
    other.obsm["X_he"] = (other.obsm["X_he"] * np.linspace(0.5, 2, 10) + np.linspace(-9, 9, 10)).astype(np.float32)
    other.obs["region"] = pd.Categorical([None] * other.n_obs)
    right = {}
    for how in ("training", "slide"):
        sd.tl.logistic_niches([tissue, other], teacher_key="region", standardize=how)
        right[how] = (other.obs["logistic_niche"] == tissue.obs["logistic_niche"])[tissue.obs["logistic_niche"].notna()]
    assert right["slide"].mean() > 0.99
    assert right["training"].mean() < 0.9
    assert tissue.uns["stdistill"]["logistic_niches"]["standardize"] == "slide"


def test_bad_input(tissue: ad.AnnData) -> None:
    columns = tissue.obs.columns.tolist()
    with pytest.raises(KeyError, match=r"teacher_key='teacher' is neither a prefix of logits"):
        sd.tl.logistic_niches(tissue)
    with pytest.raises(KeyError, match="use_rep='X_uni'"):
        sd.tl.logistic_niches(tissue, teacher_key="band", use_rep="X_uni")
    with pytest.raises(ValueError, match="seed must be at least 0"):
        sd.tl.logistic_niches(tissue, teacher_key="band", seed=-1)
    assert tissue.obs.columns.tolist() == columns
    tissue.obs["of_test"] = tissue.obs["band"].where(tissue.obs["split"] == "test")
    with pytest.raises(ValueError, match=r"None of the \d+ training cells has features in .obsm\['X_he'\] and a niche"):
        sd.tl.logistic_niches(tissue, teacher_key="of_test")
    tissue.obs["one"] = pd.Categorical(["fat"] * 700)
    with pytest.raises(ValueError, match="training cells are in one niche of the teacher"):
        sd.tl.logistic_niches(tissue, teacher_key="one")
