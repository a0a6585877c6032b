"""An alignment on a simulated slide: what is written, what it stands on, and slides that it is applied to."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import spatialdata
from spatialdata import SpatialData

import stdistill as sd
from stdistill._table.checks import share_elements

FAST: dict[str, Any] = {"width": 16, "hidden": 16, "n_dims": 8, "max_epochs": 2, "batch_size": 16, "max_pairs": 50}
FAST |= {"progress_bar": False, "accelerator": "cpu"}
SCALES = ("micro", "meso", "macro")


@pytest.fixture(scope="module")
def read(bundle: Path) -> SpatialData:
    slide = sd.pp.read_xenium(bundle)
    counts = np.log1p(slide["table"].X.toarray())
    slide["table"].obsm["X_pca"] = (counts @ np.random.default_rng(0).normal(size=(counts.shape[1], 5))).astype(
        "float32"
    )
    sd.pp.split_strips(slide, crop_px=16, mpp=0.3)
    sd.pp.tiles(slide, tile_px=128, min_cells=2)
    sd.pp.embed_tiles(slide, encoder="texture")
    return slide


def copy_of(slide: SpatialData) -> SpatialData:
    return share_elements(slide, **{name: table.copy() for name, table in slide.tables.items()})


@pytest.fixture
def slide(read: SpatialData) -> SpatialData:
    return copy_of(read)


@pytest.fixture(scope="module")
def aligned_once(read: SpatialData) -> tuple[SpatialData, sd.models.AlignmentModel]:
    slide = copy_of(read)
    return slide, sd.tl.align(slide, use_rep="X_pca", **FAST)


def test_what_is_written(aligned_once: tuple[SpatialData, sd.models.AlignmentModel], tmp_path: Path) -> None:
    slide, model = aligned_once
    tiles, cells = slide["tiles"], slide["table"]
    for side in ("he", "expression"):
        joined = tiles.obsm[f"X_aligned_{side}"]
        assert joined.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, rtol=1e-5)
        parts = [tiles.obsm[f"X_aligned_{side}_{scale}"] for scale in SCALES]
        np.testing.assert_allclose(joined * np.sqrt(3), np.hstack(parts), rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(parts[0], axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(tiles.obs["aligned_fitted"], tiles.obs["split"] == "train")
    for scale in SCALES:
        found = cells.obsm[f"X_sigmma_{scale}"]
        assert found.shape == (cells.n_obs, 16)
        np.testing.assert_array_equal(np.isnan(found).any(axis=1), cells.obs["tile"].isna())
    record = tiles.uns["stdistill"]["align"]
    assert record["model_sha256"] == model.sha256
    assert record["n_training_tiles"] == tiles.obs["aligned_fitted"].sum()
    assert record["features"] == tiles.uns["stdistill"]["embed_tiles"]["fingerprint"]
    assert record["n_dense_tiles"] > 0  # max_pairs
    saved = share_elements(slide)
    del saved.images["he"]
    saved.write(tmp_path / "slide.zarr")
    again = spatialdata.read_zarr(tmp_path / "slide.zarr")
    np.testing.assert_array_equal(again["tiles"].obsm["X_aligned_he"], tiles.obsm["X_aligned_he"])
    assert list(again["tiles"].uns["stdistill"]["align"]["scales"]) == list(SCALES)


def test_saved_and_applied_again(
    aligned_once: tuple[SpatialData, sd.models.AlignmentModel], tmp_path: Path, slide: SpatialData
) -> None:
    fitted, model = aligned_once
    model.save(tmp_path / "model")
    loaded = sd.models.load(tmp_path / "model")
    assert repr(loaded) == repr(model)
    assert repr(model).startswith("AlignmentModel: an alignment of H&E and expression at 3 scales\n")
    assert "tiles of 64 µm" in repr(model)
    assert loaded.card == model.card
    assert loaded.sha256 == model.sha256
    sd.tl.predict(slide, tmp_path / "model")
    for key in [f"X_aligned_{side}" for side in ("he", "expression")]:
        np.testing.assert_allclose(slide["tiles"].obsm[key], fitted["tiles"].obsm[key], atol=1e-6)
    np.testing.assert_allclose(slide["table"].obsm["X_sigmma_macro"], fitted["table"].obsm["X_sigmma_macro"], atol=1e-5)
    np.testing.assert_array_equal(slide["tiles"].obs["aligned_fitted"], fitted["tiles"].obs["aligned_fitted"])
    assert slide["tiles"].uns["stdistill"]["predict_aligned"]["model_sha256"] == model.sha256


def test_an_h_and_e_alone(
    aligned_once: tuple[SpatialData, sd.models.AlignmentModel], bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Tiles are laid over tissue and embedded as the model's were; there is no expression side."""
    _, model = aligned_once
    archive = sd.pp.read_slide(bundle / "simulated_he_image.ome.tif")
    with caplog.at_level(logging.INFO, logger="stdistill"):
        found = sd.tl.predict(archive, model, copy=True)
    assert "laying them as the model's were" in caplog.text
    assert "tiles" not in archive.tables
    tiles = found["tiles"]
    assert np.isfinite(tiles.obsm["X_aligned_he"]).all()
    assert "X_aligned_expression" not in tiles.obsm
    record = tiles.uns["stdistill"]
    assert (record["tiles"]["tile_px"], record["embed_tiles"]["encoder"]) == (128, "texture")


def test_several_slides_and_some_scales(slide: SpatialData) -> None:
    other = copy_of(slide)
    other["table"].obsm["X_pca"][:3] = np.nan
    keys = {"use_rep": "X_pca", "key_added": "two", "split_key": None}
    model = sd.tl.align([slide, other], scales=("macro", "micro"), edges="none", **keys, **FAST)
    assert model.card.scales == ["macro", "micro"]
    assert slide["tiles"].obsm["X_two_he"].shape[1] == 16
    assert np.isnan(other["table"].obsm["X_sigmma_micro"][:3]).all()
    assert model.card.training["n_training_tiles"] == 2 * slide["tiles"].n_obs
    assert "X_two_he_meso" not in slide["tiles"].obsm


def test_tiles_without_features_and_without_cells(slide: SpatialData) -> None:
    tiles, cells = slide["tiles"], slide["table"]
    tiles.obsm["X_he_meso"][0] = np.nan
    nobody = (cells.obs["tile"] == 2).fillna(False).to_numpy(dtype=bool)
    cells.obsm["X_pca"][nobody] = np.nan
    sd.tl.align(slide, use_rep="X_pca", **FAST)
    assert np.isnan(tiles.obsm["X_aligned_he"]).all(axis=1).nonzero()[0].tolist() == [0]
    assert np.isnan(tiles.obsm["X_aligned_expression"]).all(axis=1).nonzero()[0].tolist() == [1]
    assert not tiles.obs["aligned_fitted"].iloc[:2].any()


def broken(slide: SpatialData, how: str) -> Any:
    if how == "no tiles":
        del slide.tables["tiles"]
    elif how == "no features":
        del slide["tiles"].obsm["X_he_meso"]
    elif how == "no test tile unseen":
        slide["table"].obs["X_pca_fitted"] = True
        slide["table"].uns["stdistill"]["embed_expression_X_pca"] = {
            "key_added": "X_pca",
            "split_key": "split",
            "fingerprint": "a",
        }
    elif how == "no training":
        slide["tiles"].obs["split"] = slide["table"].obs["split"] = "test"
    elif how == "another split":
        slide["table"].obs["split"] = slide["table"].obs["split"].map({"train": "test", "test": "train"})
    elif how == "a table":
        return slide["table"]
    elif how == "another encoder":
        other = copy_of(slide)
        other["tiles"].uns["stdistill"]["embed_tiles"] |= {"encoder": "uni"}
        return [slide, other]
    elif how == "other tiles":
        other = copy_of(slide)
        other["tiles"].uns["stdistill"]["embed_tiles"] |= {"crop_px": 256}
        return [slide, other]
    elif how == "tissue":
        del slide["tiles"].uns["stdistill"]["tiles"]["table_key"]
    return slide


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("no tiles", KeyError, r"Lay them with sd\.pp\.tiles"),
        ("no features", KeyError, r"X_he_meso.*sd\.pp\.embed_tiles"),
        ("no test tile unseen", ValueError, r"had a part in fitting \.obsm\['X_pca'\]"),
        ("no training", ValueError, "There are 0 tiles to train on"),
        (
            "another split",
            ValueError,
            r"cells are in another group of \.obs\['split'\] than the tiles that they are in",
        ),
        ("a table", TypeError, "Expected a SpatialData with tables of tiles and of cells, found AnnData"),
        ("another encoder", ValueError, "computed with different encoder"),
        ("other tiles", ValueError, "computed with different crop_px"),
        ("tissue", ValueError, "laid over tissue, without cells"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(slide: SpatialData, how: str, error: type, message: str) -> None:
    data = broken(slide, how)
    with pytest.raises(error, match=message):
        sd.tl.align(data, use_rep="X_pca", **FAST)
    tables = [data] if isinstance(data, ad.AnnData) else list(slide.tables.values())
    assert not [key for table in tables for key in table.obsm if "aligned" in key or "sigmma" in key]


def test_a_latent_that_is_not_there(slide: SpatialData) -> None:
    with pytest.raises(KeyError, match=r"X_scVI.*sd\.pp\.embed_expression"):
        sd.tl.align(slide, **FAST)


def test_a_latent_that_nobody_knows(
    aligned_once: tuple[SpatialData, sd.models.AlignmentModel], slide: SpatialData
) -> None:
    """On tiles of the training it is known again; on others, or where a model knows none, it may be any."""
    model = copy.copy(aligned_once[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.predict(slide, model)
    model.seen, model.card = None, replace(model.card, images=None)
    with pytest.warns(UserWarning, match=r"Nothing tells by what \.obsm\['X_pca'\] was computed"):
        sd.tl.predict(slide, model, key_added="other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda slide: slide["tiles"].uns["stdistill"]["embed_tiles"].update(encoder="uni"), "encoder 'uni'"),
        (lambda slide: slide["tiles"].uns["stdistill"]["embed_tiles"].update(crop_px=256), "crop_px 256"),
        (lambda slide: slide["tiles"].uns["stdistill"]["embed_tiles"].update(mpp=0.25), "mpp 0.25"),
        (lambda slide: slide["table"].obsm.update(X_pca=np.zeros((slide["table"].n_obs, 3), "float32")), "3 features"),
    ],
)
def test_a_model_of_other_features(
    aligned_once: tuple[SpatialData, sd.models.AlignmentModel],
    slide: SpatialData,
    change: Callable[[SpatialData], None],
    message: str,
) -> None:
    change(slide)
    with pytest.raises(ValueError, match=message):
        sd.tl.predict(slide, aligned_once[1])
    assert "X_aligned_he" not in slide["tiles"].obsm


def test_a_slide_twice_with_other_tiles_held_out(slide: SpatialData) -> None:
    """Each tile is trained on in one of them, and held out in the other."""
    other = copy_of(slide)
    for name in ("tiles", "table"):
        split = other[name].obs["split"].astype(object)
        other[name].obs["split"] = pd.Categorical(split.replace({"train": "test", "test": "train"}))
    with pytest.raises(
        ValueError, match=r"of the \d+ tiles that are 'test' are 'train' as well.* each of the tiles once"
    ):
        sd.tl.align([slide, other], use_rep="X_pca", key_added="twice", **FAST)
    assert "X_twice_he" not in slide["tiles"].obsm


def test_a_slide_twice_is_warned_of(slide: SpatialData) -> None:
    with pytest.warns(UserWarning, match="Two of the tables show one H&E: tiles of one are trained on"):
        sd.tl.align([slide, copy_of(slide)], use_rep="X_pca", key_added="twice", **FAST)
