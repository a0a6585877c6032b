"""An alignment whose encoder learns, on a simulated slide: what it reads and writes, and other slides."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from spatialdata import SpatialData

import stdistill as sd
from stdistill._table.checks import share_elements
from stdistill.encoders import Encoder, _registry

FAST: dict[str, Any] = {"width": 16, "hidden": 16, "n_dims": 8, "max_epochs": 2, "batch_size": 16, "max_pairs": 50}
FAST |= {"progress_bar": False, "accelerator": "cpu", "use_rep": "X_pca", "finetune_blocks": 1, "learning_rate": 0.03}
SCALES = ("micro", "meso", "macro")


def make_encoder(name: str = "tiny", seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    network = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0, global_pool="avg"
    )
    return sd.encoders.from_module(network, mean=(0.5,) * 3, std=(0.25,) * 3, input_px=32, name=name)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder()


@pytest.fixture(autouse=True)
def registered(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "_own", {"tiny": encoder})


@pytest.fixture(scope="module")
def read(bundle: Path, encoder: Encoder) -> SpatialData:
    slide = sd.pp.read_xenium(bundle)
    counts = np.log1p(slide["table"].X.toarray())
    latent = counts @ np.random.default_rng(0).normal(size=(counts.shape[1], 5))
    slide["table"].obsm["X_pca"] = latent.astype("float32")
    sd.pp.split_strips(slide, crop_px=16, mpp=0.3)
    sd.pp.tiles(slide, tile_px=128, min_cells=2)
    sd.pp.embed_tiles(slide, encoder=encoder)
    return slide


def copy_of(slide: SpatialData) -> SpatialData:
    return share_elements(slide, **{name: table.copy() for name, table in slide.tables.items()})


@pytest.fixture
def slide(read: SpatialData) -> SpatialData:
    return copy_of(read)


@pytest.fixture(scope="module")
def learned(read: SpatialData, encoder: Encoder) -> tuple[SpatialData, sd.models.AlignmentModel]:
    slide = copy_of(read)
    return slide, sd.tl.align(slide, encoder=encoder, **FAST)


def test_what_is_written(
    learned: tuple[SpatialData, sd.models.AlignmentModel], read: SpatialData, encoder: Encoder
) -> None:
    slide, model = learned
    tiles, before = slide["tiles"], read["tiles"]
    for scale in SCALES:
        np.testing.assert_array_equal(tiles.obsm[f"X_he_{scale}"], before.obsm[f"X_he_{scale}"])
        changed = tiles.obsm[f"X_he_aligned_{scale}"]
        assert (changed.shape, changed.dtype) == (before.obsm[f"X_he_{scale}"].shape, np.float16)
        assert not np.array_equal(changed, before.obsm[f"X_he_{scale}"])
    np.testing.assert_allclose(np.linalg.norm(tiles.obsm["X_aligned_he"], axis=1), 1, rtol=1e-5)
    frozen, own, aligned = (
        tiles.uns["stdistill"][name] for name in ("embed_tiles", "embed_tiles_X_he_aligned", "align")
    )
    assert (frozen["encoder"], own["encoder"]) == ("tiny", "tiny-finetuned")
    assert own["revision"] != frozen["revision"]
    assert (aligned["finetune_blocks"], aligned["he_rep"]) == (1, "X_he")
    assert model.card.finetuned == {"blocks": 1, "encoder": "tiny", "revision": encoder.revision}
    assert model.card.inputs["micro"].feature_key == "X_he_aligned_micro"
    assert {name.split(".")[1] for name in model.blocks if name.startswith("blocks")} == {"1"}
    assert set(model.blocks) < {name.removeprefix("encoder.") for name in model.weights}


def test_features_are_those_of_the_blocks_that_learned(
    learned: tuple[SpatialData, sd.models.AlignmentModel], slide: SpatialData, encoder: Encoder
) -> None:
    """Put into the encoder by hand."""
    fitted, model = learned
    network = encoder.load()
    network.load_state_dict(model.blocks, strict=False)
    by_hand = sd.encoders.from_module(network, mean=encoder.mean, std=encoder.std, input_px=32, name="by-hand")
    sd.pp.embed_tiles(slide, encoder=by_hand, key_added="X_hand")
    for scale in SCALES:
        found = fitted["tiles"].obsm[f"X_he_aligned_{scale}"]
        np.testing.assert_array_equal(slide["tiles"].obsm[f"X_hand_{scale}"], found)


def test_saved_and_applied_again(
    learned: tuple[SpatialData, sd.models.AlignmentModel],
    slide: SpatialData,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A slide without the features gets them, of the encoder with the blocks in it."""
    fitted, model = learned
    model.save(tmp_path / "model")
    loaded = sd.models.load(tmp_path / "model")
    assert (loaded.sha256, loaded.card) == (model.sha256, model.card)
    assert {name: each.numpy().tobytes() for name, each in loaded.blocks.items()} == {
        name: each.numpy().tobytes() for name, each in model.blocks.items()
    }
    with caplog.at_level(logging.INFO, logger="stdistill"):
        sd.tl.predict(slide, tmp_path / "model", device="cpu")
    assert 'There is no .obsm["X_he_aligned_micro"]' in caplog.text
    tiles = slide["tiles"]
    for key in ("X_he_aligned_micro", "X_aligned_he", "X_aligned_expression"):
        np.testing.assert_allclose(tiles.obsm[key], fitted["tiles"].obsm[key], atol=1e-6)
    np.testing.assert_array_equal(tiles.obs["aligned_fitted"], fitted["tiles"].obs["aligned_fitted"])


def test_an_h_and_e_alone(learned: tuple[SpatialData, sd.models.AlignmentModel], bundle: Path) -> None:
    _, model = learned
    archive = sd.pp.read_slide(bundle / "simulated_he_image.ome.tif")
    with pytest.warns(UserWarning, match="trained on this very H&E"):
        sd.tl.predict(archive, model, device="cpu")
    assert np.isfinite(archive["tiles"].obsm["X_aligned_he"]).all()
    assert archive["tiles"].uns["stdistill"]["embed_tiles_X_he_aligned"]["encoder"] == "tiny-finetuned"


def test_features_of_another_model_are_refused(
    learned: tuple[SpatialData, sd.models.AlignmentModel], slide: SpatialData
) -> None:
    sd.tl.align(slide, **FAST | {"seed": 1})
    with pytest.raises(ValueError, match=r"X_he_aligned_micro.*encoder_revision.*delete them, to get this one's"):
        sd.tl.predict(slide, learned[1], device="cpu")
    for scale in SCALES:
        del slide["tiles"].obsm[f"X_he_aligned_{scale}"]
    sd.tl.predict(slide, learned[1], device="cpu")
    found = slide["tiles"].obsm["X_he_aligned_micro"]
    np.testing.assert_allclose(found, learned[0]["tiles"].obsm["X_he_aligned_micro"], atol=1e-6)


def test_predict_needs_the_encoder(
    learned: tuple[SpatialData, sd.models.AlignmentModel], slide: SpatialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_registry, "_own", {})
    with pytest.raises(KeyError, match=r"There is no encoder .*tiny"):
        sd.tl.predict(slide, learned[1])
    monkeypatch.setattr(_registry, "_own", {"tiny": make_encoder(seed=1)})
    with pytest.raises(ValueError, match="The weights of 'tiny' are of revision"):
        sd.tl.predict(slide, learned[1])


def test_blocks_that_are_lost_are_missed(learned: tuple[SpatialData, sd.models.AlignmentModel]) -> None:
    _, model = learned
    weights = {name: each for name, each in model.weights.items() if not name.startswith("encoder.")}
    with pytest.raises(LookupError, match="0 tensors are of an encoder"):
        type(model).restore(model.card, weights, model.history)


def test_several_slides(slide: SpatialData) -> None:
    """Tiles without features are not read, nor are those of the test."""
    other = copy_of(slide)
    other["tiles"].obsm["X_he_meso"][0] = np.nan
    with pytest.warns(UserWarning, match="was changed since it was computed"):
        model = sd.tl.align([slide, other], key_added="two", scales=("meso",), **FAST)
    for each in (slide, other):
        assert np.isfinite(each["tiles"].obsm["X_two_he"]).all()
        assert "X_he_two_meso" in each["tiles"].obsm
    assert model.card.training["n_training_tiles"] == 2 * (slide["tiles"].obs["split"] == "train").sum() - int(
        other["tiles"].obs["split"].iloc[0] == "train"
    )


def test_pixels_are_gone_afterwards(slide: SpatialData, tmp_path: Path) -> None:
    sd.tl.align(slide, checkpoint_dir=tmp_path, **FAST)
    assert {path.name for path in tmp_path.iterdir()} == {"resume.ckpt", "pixels-1.lock"}


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"encoder": "texture", "revision": None}, {}, "'texture' holds no vision transformers"),
        ({"encoder": "tiny+texture"}, {}, r"of the encoder 'tiny\+texture'; expected one encoder"),
        ({"encoder": None}, {}, r"of the encoder None.*sd\.pp\.embed_tiles\(encoder=…\)"),
        ({"stain_normalization": "{}"}, {}, "and of a normalised stain"),
        ({}, {"finetune_blocks": 3}, "'tiny' has 2 blocks: 3 of them cannot learn"),
        ({}, {"encoder": make_encoder(seed=1)}, "The weights of 'tiny' are of revision"),
        ({}, {"encoder": make_encoder("other")}, "The encoder is 'other'"),
        ({}, {"encoder": "tiny", "finetune_blocks": 0}, "give finetune_blocks= too"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    slide: SpatialData, change: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    record = slide["tiles"].uns["stdistill"]["embed_tiles"] | change
    kept = {name: value for name, value in record.items() if value is not None}
    slide["tiles"].uns["stdistill"]["embed_tiles"] = kept
    with pytest.raises(ValueError, match=message):
        sd.tl.align(slide, **FAST | arguments)
    assert not [key for table in slide.tables.values() for key in table.obsm if "aligned" in key]
