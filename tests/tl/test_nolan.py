from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import spatialdata
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

import stdistill as sd
from stdistill._runs import complete
from stdistill._table.records import write_record
from stdistill.models.niche import use

FAST = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "max_epochs": 4, "learning_rate": 5e-3}
FAST |= {"batch_size": 64, "progress_bar": False, "accelerator": "cpu"}


@pytest.fixture
def make_tissue(make_cells: Callable[..., ad.AnnData]) -> Callable[..., ad.AnnData]:
    """Three niches in stripes, told by the mean of six features in noise."""

    def make(n: int = 700, *, seed: int = 0, split: bool = True, key: str = "X_scVI", **obs: Any) -> ad.AnnData:
        cells = make_cells(n, extent=600.0, seed=seed, **obs)
        niche = (cells.obsm["spatial"][:, 0] / 200).astype(int)
        signal = np.random.default_rng(99).normal(size=(3, 6))
        noise = np.random.default_rng(seed + 1).normal(size=(n, 6))
        cells.obsm[key] = (signal[niche] + noise).astype(np.float32)
        cells.obs["truth"] = niche
        if split:
            sd.pp.split_strips(cells, crop_px=100, mpp=0.2)
        sd.pp.neighborhoods(cells, n_neighbors=15)
        return cells

    return make


@pytest.fixture
def tissue(make_tissue: Callable[..., ad.AnnData]) -> ad.AnnData:
    return make_tissue()


def agreement(cells: ad.AnnData, where: Any, key: str = "teacher") -> float:
    return adjusted_rand_score(cells.obs["truth"][where], cells.obs[f"{key}_niche"][where])


def test_finds_the_niches_on_the_test_strip(tissue: ad.AnnData) -> None:
    teacher = sd.tl.nolan(tissue, k=3, **FAST | {"max_epochs": 8})
    assert agreement(tissue, (tissue.obs["split"] == "test").to_numpy()) > 0.7
    assert agreement(tissue, (tissue.obs["split"] == "train").to_numpy()) > 0.7
    assert teacher.history["occupied_niches"].tolist() == [3.0] * 8
    assert teacher.history.notna().all(axis=None)
    assert repr(teacher).startswith("NicheModel: a teacher of 3 tissue niches\n")
    assert f"6 features of X_scVI; cells within {teacher.radius_um:.1f} µm" in repr(teacher)


@pytest.mark.filterwarnings("ignore:.*has no experiment")
def test_real_tissue(shared_data: Path) -> None:
    """A piece of mouse brain: all niches are used, and they are places rather than cell types."""
    brain = sd.pp.read_xenium(shared_data / "xenium_mouse_brain")["table"]
    x, y = brain.obsm["spatial"].T
    brain = brain[(x > 2800) & (x < 3700) & (y > 2000) & (y < 3000)].copy()
    counts = brain.X.toarray()
    log_counts = np.log1p(100 * counts / counts.sum(axis=1, keepdims=True))
    brain.obsm["X_pca"] = PCA(20, random_state=0).fit_transform(log_counts).astype(np.float32)
    sd.pp.neighborhoods(brain, n_neighbors=30)
    sd.tl.nolan(brain, k=10, use_rep="X_pca", max_epochs=3, progress_bar=False, accelerator="cpu")

    nearest = NearestNeighbors(n_neighbors=10).fit(brain.obsm["spatial"]).kneighbors(return_distance=False)

    def scattered(niches: np.ndarray) -> float:
        """Share of cells of which at least six of ten nearest neighbours are in another niche."""
        return float(((niches[nearest] != niches[:, None]).sum(axis=1) >= 6).mean())

    niches = brain.obs["teacher_niche"].cat.codes.to_numpy()
    assert len(np.unique(niches)) >= 8
    assert scattered(niches) < 0.05
    assert scattered(KMeans(10, n_init=3, random_state=0).fit_predict(brain.obsm["X_pca"])) > 0.2


def test_what_is_written(tissue: ad.AnnData, tmp_path: Path) -> None:
    before = set(tissue.obs.columns)
    sd.tl.nolan(tissue, k=4, **FAST)
    logits = [f"teacher_logit_{niche}" for niche in range(4)]
    columns = {f"teacher_{what}" for what in ("niche", "confidence", "fitted", "model", "mark")}
    assert set(tissue.obs.columns) - before == {*logits, *columns}
    none = (tissue.obs["split"] == "buffer").to_numpy()
    assert 0 < none.mean() < 0.5
    assert tissue.obs.loc[none, logits].isna().all(axis=None)
    assert tissue.obs.loc[none, "teacher_niche"].isna().all()
    assert tissue.obs.loc[~none, logits].notna().all(axis=None)
    assert (tissue.obs["teacher_niche"].cat.categories == ["0", "1", "2", "3"]).all()
    assert (sd.get.logits(tissue, "teacher")[~none].idxmax(axis=1) == tissue.obs["teacher_niche"][~none]).all()
    assert len(tissue.uns["teacher_niche_colors"]) == 4
    record = tissue.uns["stdistill"]["nolan"]
    assert record["k"] == 4
    assert record["centering"] == "centering"
    assert record["n_training_cells"] == (tissue.obs["split"] == "train").sum()
    tissue.write_h5ad(tmp_path / "tissue.h5ad")
    read = ad.read_h5ad(tmp_path / "tissue.h5ad")
    assert read.obs["teacher_niche"].equals(tissue.obs["teacher_niche"])


def test_confidence_says_something(tissue: ad.AnnData) -> None:
    """Cosines alone would leave it near 1 / k."""
    sd.tl.nolan(tissue, k=3, **FAST | {"max_epochs": 8})
    confidence = tissue.obs["teacher_confidence"]
    at_border = (tissue.obsm["spatial"][:, 0] % 200 < 20) | (tissue.obsm["spatial"][:, 0] % 200 > 180)
    assert confidence.median() > 0.8
    assert confidence[at_border].mean() < confidence[~at_border].mean()


def test_test_and_buffer_cells_are_not_trained_on(tissue: ad.AnnData) -> None:
    other = tissue.copy()
    other.obsm["X_scVI"][(tissue.obs["split"] != "train").to_numpy()] += 100
    first, second = (sd.tl.nolan(cells, k=3, **FAST) for cells in (tissue, other))
    for one, two in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, two)


def test_saved_teacher_predicts_the_same_bits(tissue: ad.AnnData, tmp_path: Path) -> None:
    sd.tl.nolan(tissue, k=3, **FAST).save(tmp_path / "teacher")
    loaded = sd.models.NicheModel.load(tmp_path / "teacher")
    sd.tl.predict(tissue, loaded, key_added="again")
    np.testing.assert_array_equal(sd.get.logits(tissue, "again"), sd.get.logits(tissue, "teacher"))
    assert list(loaded.history) == list(loaded.history.dropna(axis=1))


def test_histology_baseline(make_tissue: Callable[..., ad.AnnData]) -> None:
    """float16 features of an encoder: it is in the card; the expression teacher beside it stays."""
    cells = make_tissue(key="X_he")
    cells.obsm["X_he"] = cells.obsm["X_he"].astype(np.float16)
    cells.obs["teacher_niche"] = "mine"
    write_record(cells, "embed_he", encoder="texture", mpp=0.274, crop_px=224, key_added="X_he")
    model = sd.tl.nolan(cells, k=3, use_rep="X_he", key_added="he_nolan", **FAST | {"max_epochs": 8})
    assert (model.card.encoder, model.card.mpp, model.card.feature_key) == ("texture", 0.274, "X_he")
    assert agreement(cells, (cells.obs["split"] == "test").to_numpy(), "he_nolan") > 0.7
    assert set(cells.obs["teacher_niche"]) == {"mine"}


def test_makes_what_is_missing(
    make_tissue: Callable[..., ad.AnnData], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cells = make_tissue(300)
    latent = cells.obsm.pop("X_scVI")
    for key in ("spatial_connectivities", "spatial_distances"):
        del cells.obsp[key]
    del cells.uns["spatial_neighbors"]
    asked: dict[str, Any] = {}

    def embed(adata: ad.AnnData, **parameters: Any) -> None:
        asked.update(parameters)
        adata.obsm["X_scVI"] = latent

    monkeypatch.setattr(complete, "embed_expression", embed)
    with caplog.at_level(logging.INFO, logger="stdistill"):
        sd.tl.nolan(cells, k=3, seed=3, **FAST)
    assert asked == {"split_key": "split", "library_key": None, "seed": 3, "accelerator": "cpu"}
    assert "computing it with sd.pp.embed_expression" in caplog.text
    assert "making them with sd.pp.neighborhoods" in caplog.text
    assert cells.obs["teacher_niche"].notna().any()


def test_several_slides_share_their_niches(make_tissue: Callable[..., ad.AnnData]) -> None:
    slides = [make_tissue(400, seed=seed, split=False) for seed in (0, 1)]
    for slide in slides:
        sd.pp.neighborhoods(slide, radius_um=60)
    sd.tl.nolan(slides, k=3, **FAST | {"max_epochs": 8})
    both = ad.concat(slides, keys=["a", "b"], index_unique="-")
    assert agreement(both, slice(None)) > 0.7
    del slides[1].obsm["X_scVI"]
    with pytest.raises(KeyError, match="compute them in one go"):
        sd.tl.nolan(slides, k=3, **FAST)


def test_libraries_in_one_table(make_tissue: Callable[..., ad.AnnData]) -> None:
    """One of them has a single cell."""
    cells = make_tissue(300, split=False, slide=["a"] * 299 + ["b"])
    sd.pp.neighborhoods(cells, radius_um=60, library_key="slide")
    sd.tl.nolan(cells, k=3, library_key="slide", **FAST)
    assert cells.obs["teacher_niche"].notna().all()


def test_spatialdata(make_slide: Callable[..., spatialdata.SpatialData]) -> None:
    slide = make_slide(100)
    slide["table"].obsm["X_scVI"] = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    sd.pp.neighborhoods(slide, radius_um=10)
    sd.tl.nolan(slide, k=2, **FAST | {"max_epochs": 1})
    assert slide["table"].obs["teacher_niche"].notna().all()


def test_cells_alone_and_cells_without_features(make_tissue: Callable[..., ad.AnnData]) -> None:
    cells = make_tissue(300, split=False)
    cells.obsm["spatial"][:2] += 10_000 * np.arange(1, 3)[:, None]
    cells.obsm["X_scVI"][5:9, 2] = np.nan
    sd.pp.neighborhoods(cells, radius_um=50)
    sd.tl.nolan(cells, k=3, **FAST)
    missing = cells.obs["teacher_niche"].isna().to_numpy()
    assert np.flatnonzero(missing).tolist() == [5, 6, 7, 8]
    assert cells.uns["stdistill"]["nolan"]["n_training_cells"] == 296


def test_empty_niches_are_reported(make_tissue: Callable[..., ad.AnnData]) -> None:
    """Two kinds of features cannot make six niches when each cell has only itself."""
    cells = make_tissue(200, split=False)
    cells.obsm["X_scVI"] = np.eye(2, dtype=np.float32)[np.arange(200) % 2]
    sd.pp.neighborhoods(cells, radius_um=1e-3)
    with pytest.warns(UserWarning, match=r"of k=6 niches are empty: no training cell is in \["):
        teacher = sd.tl.nolan(cells, k=6, **FAST)
    record = cells.uns["stdistill"]["nolan"]
    assert record["occupied_niches"] == cells.obs["teacher_niche"].nunique() < 6
    assert teacher.card.k == 6


def test_one_niche(make_tissue: Callable[..., ad.AnnData]) -> None:
    cells = make_tissue(200, split=False)
    sd.tl.nolan(cells, k=1, **FAST)
    assert set(cells.obs["teacher_niche"]) == {"0"}
    assert (cells.obs["teacher_confidence"] == 1).all()


def test_a_collapse_writes_nothing(tissue: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use, "COLLAPSED", 0.1)
    with pytest.raises(RuntimeError, match="try fewer niches"):
        sd.tl.nolan(tissue, k=3, **FAST)
    assert "teacher_niche" not in tissue.obs
    assert "nolan" not in tissue.uns["stdistill"]


def test_bad_input(tissue: ad.AnnData) -> None:
    with pytest.raises(ValueError, match=r"centering must be one of \['centering', 'sinkhorn'\], found 'mean'"):
        sd.tl.nolan(tissue, centering="mean")
    with pytest.raises(ValueError, match="k must be at least 1, found 0"):
        sd.tl.nolan(tissue, k=0)
    with pytest.raises(ValueError, match="size must be one of"):
        sd.tl.nolan(tissue, size="large")
    with pytest.raises(KeyError, match=r"use_rep='X_he' is not features in .obsm; .*Compute them with sd.pp.embed_he"):
        sd.tl.nolan(tissue, use_rep="X_he")
    n = int((tissue.obs["split"] == "train").sum())
    with pytest.raises(ValueError, match=f"{n} cells can be trained on, for k={n + 1} niches"):
        sd.tl.nolan(tissue, k=n + 1, **FAST)
    tissue.obsm["X_scVI"][:] = 1
    with pytest.raises(ValueError, match="have the same features"):
        sd.tl.nolan(tissue, k=3, **FAST)
    tissue.obsm["X_scVI"][:] = np.nan
    with pytest.raises(ValueError, match="0 cells can be trained on"):
        sd.tl.nolan(tissue, k=3, **FAST)
    assert "teacher_niche" not in tissue.obs


def test_latents_made_slide_by_slide(make_tissue: Callable[..., ad.AnnData]) -> None:
    """Each of its own scVI model: their axes mean different things, whatever their number."""
    slides = [make_tissue(300, seed=seed) for seed in (0, 1)]
    for slide, sha256 in zip(slides, ("aa", "bb"), strict=True):
        write_record(slide, "embed_expression", model_sha256=sha256, key_added="X_scVI")
        slide.uns.pop("spatial_neighbors", None)
    with pytest.raises(ValueError, match=r"different expression_model_sha256 .*sd\.pp\.embed_expression\(library_key="):
        sd.tl.nolan(slides, k=3, **FAST)
    assert not any({"spatial_neighbors", "teacher_niche_colors"} & set(slide.uns) for slide in slides)
    write_record(slides[1], "embed_expression", model_sha256="aa", key_added="X_scVI")
    assert sd.tl.nolan(slides, k=3, **FAST).card.expression_model_sha256 == "aa"
