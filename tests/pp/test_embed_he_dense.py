"""Dense features of a slide: what is read, what is recorded, and what they may be used with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pytest
import timm
import torch
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation
from torch import Tensor, nn

import stdistill as sd
from stdistill._features.compute import compute_features
from stdistill._runs.prepare import split
from stdistill._slide.plan import Slide, crop_origins, plan_crops
from stdistill._slide.pyramid import SlideLevel
from stdistill.encoders import _registry

PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}
FAST: dict[str, Any] = {"width": 16, "depth": 1, "n_heads": 2, "n_frequencies": 3, "max_epochs": 2}
FAST |= {"batch_size": 64, "progress_bar": False, "accelerator": "cpu"}


class Colours(nn.Module):
    """In the place of a vision transformer: the mean colour of each patch, 0 to 255."""

    num_prefix_tokens = 0
    n_images = 0

    def __init__(self, patch_px: int) -> None:
        super().__init__()
        self.patch_embed = nn.AvgPool2d(patch_px)
        self.patch_embed.patch_size = (patch_px, patch_px)

    def forward(self, images: Tensor) -> Tensor:
        type(self).n_images += len(images)
        return images.mean((2, 3)) * 255

    def forward_features(self, images: Tensor) -> Tensor:
        type(self).n_images += len(images)
        return self.patch_embed(images).flatten(2).mT * 255


def colours(patch_px: int = 4, input_px: int = 32) -> sd.encoders.Encoder:
    return sd.encoders.from_module(Colours(patch_px), name="colours", input_px=input_px, **PLAIN)


def transformer(seed: int = 0) -> sd.encoders.Encoder:
    """A vision transformer of timm with random weights, of tiles of 32 px."""
    torch.manual_seed(seed)
    network = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=4, depth=1, embed_dim=16, num_heads=2, num_classes=0
    )
    return sd.encoders.from_module(network, name="vit", input_px=32, **PLAIN)


def paint(slide: SpatialData, *, chunks: int = 100) -> np.ndarray:
    """Fill the H&E with noise whose mean changes over it, in a white border that is taken for its glass."""
    old = slide["he"]
    rows, columns = np.mgrid[: old.sizes["y"], : old.sizes["x"]]
    noise = np.random.default_rng(0).integers(-60, 60, (3, *rows.shape))
    pixels = (120 + 40 * np.sin([rows / 30, columns / 20, (rows + columns) / 50]) + noise / 2).astype(np.uint8)
    pixels[:, :16] = pixels[:, -16:] = 250
    pixels[..., :16] = pixels[..., -16:] = 250
    transformation = get_transformation(old)
    del slide.images["he"]
    slide.images["he"] = Image2DModel.parse(
        da.from_array(pixels, chunks=(1, chunks, chunks)),
        dims=("c", "y", "x"),
        c_coords=["r", "g", "b"],
        transformations={"global": transformation},
    )
    return np.moveaxis(pixels, 0, -1)


def test_features_are_the_mean_under_the_disc(make_slide: Callable[..., SpatialData]) -> None:
    """Of patches that lie on the slide, glass beyond its edge, by counting pixels."""
    slide = make_slide()
    pixels = paint(slide).astype(float)
    sd.pp.embed_he(slide, encoder=colours().dense(), crop_px=24)
    margin = 64
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), constant_values=250)
    of_patches = wide.reshape(wide.shape[0] // 4, 4, wide.shape[1] // 4, 4, 3).mean((1, 3)).repeat(4, 0).repeat(4, 1)
    rows, columns = np.mgrid[: wide.shape[0], : wide.shape[1]] + 0.5
    for (x, y), found in zip(sd.get.he_pixels(slide)[["x", "y"]].to_numpy(), slide["table"].obsm["X_he"], strict=True):
        center = np.floor(np.array([x, y]) - 12 + 0.5) + 12 + margin
        under = np.hypot(columns - center[0], rows - center[1]) < 12
        np.testing.assert_allclose(found, of_patches[under].mean(0), atol=0.7)


@pytest.mark.parametrize("mpp", [None, 0.3, 0.13])
def test_windows_make_no_difference(
    make_slide: Callable[..., SpatialData], monkeypatch: pytest.MonkeyPatch, mpp: float | None
) -> None:
    """Nor how many tiles are taken at once, nor which other cells there are, whatever the scale."""
    slide, encoder = make_slide(), transformer().dense()
    paint(slide)
    sd.pp.embed_he(slide, encoder=encoder, crop_px=24, mpp=mpp)
    whole = slide["table"].obsm["X_he"]
    assert np.std(whole.astype(float), axis=0).min() > 0.01
    monkeypatch.setattr("stdistill._slide.plan.WINDOW_PX", 50)
    paint(slide, chunks=50)
    sd.pp.embed_he(slide, encoder=encoder, crop_px=24, mpp=mpp, batch_size=3, key_added="X_small")
    monkeypatch.setattr("stdistill._features.encoding.BLOCK_PX", 40)
    sd.pp.embed_he(slide, encoder=encoder, crop_px=24, mpp=mpp, key_added="X_blocks")
    for key in ("X_small", "X_blocks"):
        np.testing.assert_allclose(slide["table"].obsm[key], whole, rtol=2e-3, atol=2e-3)
    few = make_slide()
    paint(few)
    few["table"] = few["table"][::7].copy()
    sd.pp.embed_he(few, encoder=encoder, crop_px=24, mpp=mpp)
    np.testing.assert_allclose(few["table"].obsm["X_he"], whole[::7], rtol=2e-3, atol=2e-3)


def test_beside_another_encoder(make_slide: Callable[..., SpatialData]) -> None:
    """Which is run crop by crop on the same windows."""
    slide = make_slide()
    paint(slide)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64)
    sd.pp.embed_he(slide, encoder=transformer().dense(), crop_px=64, key_added="X_dense")
    sd.pp.embed_he(slide, encoder=["texture", transformer().dense()], crop_px=64, key_added="X_both")
    table = slide["table"]
    expected = np.concatenate([table.obsm["X_he"], table.obsm["X_dense"]], axis=1)
    np.testing.assert_allclose(table.obsm["X_both"], expected, rtol=2e-3, atol=2e-3)


def test_record(make_slide: Callable[..., SpatialData], tmp_path: Path) -> None:
    """How far features see, and that they are none of crops: in the record, the column of kinds, and the store."""
    slide, encoder = make_slide(), transformer()
    paint(slide)
    sd.pp.embed_he(slide, encoder=encoder, crop_px=24, key_added="X_crops", store=tmp_path / "store")
    with pytest.raises(ValueError, match=r"another run \(encoders: .*dense-1"):
        sd.pp.embed_he(slide, encoder=encoder.dense(), crop_px=24, store=tmp_path / "store")
    sd.pp.embed_he(slide, encoder=encoder.dense(), crop_px=24)
    table = slide["table"]
    dense, crops = (table.uns["stdistill"][step] for step in ("embed_he", "embed_he_X_crops"))
    assert (dense["crop_px"], dense["seen_px"], crops["crop_px"], crops["seen_px"]) == (24, 88, 24, 24)
    assert dense["crop_um"] == pytest.approx(88 * 0.2125)
    assert crops["crop_um"] == pytest.approx(24 * 0.2125)
    assert dense["revision"] == f"{crops['revision']}-dense-1"
    assert table.obs["X_he_model"].iloc[0] != table.obs["X_crops_model"].iloc[0]


def test_tiles_are_cut_into_crops(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide()
    paint(slide)
    sd.pp.tiles(slide, tile_px=128, mpp=0.2125, min_cells=1)
    with pytest.raises(ValueError, match=r"'colours' is dense, which is for cells.*Give encoder\.by_crops\(\)"):
        sd.pp.embed_tiles(slide, encoder=colours().dense())
    sd.pp.embed_tiles(slide, encoder=colours().dense().by_crops())


def test_from_a_split_to_niches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The split keeps apart what features see; the model computes dense features, and takes no others."""
    monkeypatch.setattr(_registry, "_own", {})
    encoder = transformer()
    sd.encoders.register(encoder)
    slide = sd.pp.read_xenium(sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=400, seed=5))
    cells = slide["table"]
    cells.obs["side"] = np.where(cells.obsm["spatial"][:, 0] < np.median(cells.obsm["spatial"][:, 0]), "left", "right")
    sd.pp.embed_he(slide, encoder=encoder.dense(), crop_px=24)
    sd.pp.split_strips(slide, crop_px=24)
    sd.pp.neighborhoods(slide)
    with pytest.raises(ValueError, match=r"share pixels.*of dense ones crop_px=encoder\.seen_px"):
        sd.tl.distill(slide, teacher_key="side", **FAST)
    sd.pp.split_strips(slide, crop_px=encoder.dense().seen_px(24))
    expected = cells.obs.pop("split")
    split(SimpleNamespace(step=lambda _, compute: compute()), slide)  # type: ignore[arg-type]
    assert (cells.obs["split"] == expected).all()  # the commands' own split is as wide
    sd.pp.neighborhoods(slide)
    student = sd.tl.distill(slide, teacher_key="side", **FAST)
    student.save(tmp_path / "student")
    assert str(student.card.encoder_revision).endswith("-dense-1")
    assert "discs of 24 px" in str(student)

    dense = cells.obsm.pop("X_he")
    done = sd.tl.predict(slide, tmp_path / "student", copy=True)
    np.testing.assert_allclose(done["table"].obsm["X_he"], dense, rtol=2e-3, atol=2e-3)
    assert done["table"].uns["stdistill"]["embed_he"]["seen_px"] == 88

    sd.pp.embed_he(slide, encoder=encoder, crop_px=24)
    with pytest.raises(ValueError, match=r"encoder_revision.*Some are dense, others are not.*encoder\.dense\(\)"):
        sd.tl.predict(slide, student)
    with pytest.raises(ValueError, match="different encoder_revision in the tables"):
        sd.tl.distill([done["table"], cells], teacher_key="side", **FAST)


def test_a_student_of_crops_gets_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the encoder that is registered is a dense one."""
    monkeypatch.setattr(_registry, "_own", {})
    slide = sd.pp.read_xenium(sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=200, seed=5))
    cells = slide["table"]
    cells.obs["side"] = np.where(cells.obsm["spatial"][:, 0] < np.median(cells.obsm["spatial"][:, 0]), "left", "right")
    sd.encoders.register(transformer().dense())
    sd.pp.embed_he(slide, encoder=transformer(), crop_px=24)
    sd.pp.neighborhoods(slide)
    student = sd.tl.distill(slide, teacher_key="side", **FAST)
    crops = cells.obsm.pop("X_he")
    done = sd.tl.predict(slide, student, copy=True)
    np.testing.assert_allclose(done["table"].obsm["X_he"], crops, rtol=2e-3, atol=2e-3)


def test_passes_at_the_density_of_tissue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4,500 cells per mm² at 0.274 µm per pixel, tiles of 224 px: less than a fifth, with those that windows share."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    side = 4096
    n = round(4500 * (side * 0.274e-3) ** 2)
    level = SlideLevel(da.zeros((3, side, side), chunks=(3, 1024, 1024), dtype=np.uint8), np.ones(2))
    places = np.random.default_rng(0).uniform(0, side, (n, 2))
    encoder = colours(16, 224).dense()
    plan = plan_crops(level, np.arange(n), crop_origins(places, 224), 224, margin=224)
    Colours.n_images = 0
    compute_features(
        [Slide(plan, np.zeros(3, dtype=np.uint8))],
        [encoder],
        np.arange(n).astype(str),
        crop_px=224,
        mpp=None,
        batch_size=None,
        precision=None,
        stain=None,
        store=None,
        resume=False,
        device="cpu",
        devices=1,
        num_nodes=1,
        strategy="auto",
    )
    assert Colours.n_images < n / 5
