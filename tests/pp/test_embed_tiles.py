from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import torch
from PIL import Image
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation
from torch import nn

import stdistill as sd
from stdistill._table.fitting.origin import common_origin, images_of, origin_of

SCALED = np.diag([0.5 / 0.2125, 0.5 / 0.2125, 1])
"""Pixels of the H&E are half a µm."""
SMALL = {"tile_px": 64, "mpp": 0.5}
SIDES = {"micro": 4, "meso": 2, "macro": 1}
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}
NORMAL = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}

Make = Callable[..., SpatialData]


class Statistics(nn.Module):
    """Of each channel mean, mean square and the mean of neighbours' products, which tell what is cut apart."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = [images, images.square(), images[..., 1:] * images[..., :-1], images[..., 1:, :] * images[..., :-1, :]]
        return torch.cat([part.mean((2, 3)) for part in means], dim=1)


class Interrupted(nn.Module):
    """Fails at the call of a number, and counts calls."""

    calls = 0
    fails_at = -1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        type(self).calls += 1
        if type(self).calls == type(self).fails_at:
            msg = "the power failed"
            raise RuntimeError(msg)
        return images.mean((2, 3))


def statistics(**changes: Any) -> sd.encoders.Encoder:
    return sd.encoders.from_module(Statistics(), **{"name": "statistics"} | PLAIN | changes)


def smooth_noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Pixels (height, width, 3) whose details are larger than what resampling to and fro loses."""
    small = np.random.default_rng(seed).integers(40, 220, (height // 5 + 2, width // 5 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def slide(make_slide: Make) -> SpatialData:
    """Four by six tiles of 64 px, of which cells are in some: those at the edges of the image end where it does."""
    centers = np.array([[0.1, 0.1], [120, 3], [127.5, 191.5], [50, 100], [40, 20], [90, 150]])
    slide = make_slide(centers, he_to_global=SCALED, shape=(384, 256))
    fill(slide, smooth_noise(384, 256))
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    return slide


def fill(slide: SpatialData, pixels: np.ndarray, read: Callable[[], None] = lambda: None) -> None:
    """Give the H&E other pixels, in chunks that tell when they are read."""

    def load(chunk: np.ndarray) -> np.ndarray:
        if chunk.size:  # dask asks with none for the type
            read()
        return chunk

    lazy = da.from_array(np.moveaxis(pixels, -1, 0), chunks=(3, 100, 100)).map_blocks(load, dtype=np.uint8)
    transformations = get_transformation(slide["he"], get_all=True)
    del slide.images["he"]
    slide.images["he"] = Image2DModel.parse(
        lazy, dims=("c", "y", "x"), c_coords=["r", "g", "b"], transformations=transformations
    )


def tiles_by_hand(slide: SpatialData) -> list[np.ndarray]:
    """Cut the tiles out of the image, by the corners of the shapes."""
    pixels = np.moveaxis(slide["he"].values, 0, -1)
    corners = np.stack([square.bounds[:2] for square in slide["tiles_squares"].geometry]) * 2
    return [pixels[y : y + 64, x : x + 64] for x, y in corners.round().astype(int)]


def by_hand(tile: np.ndarray, n: int, encode: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Average what crop after crop gives."""
    side = len(tile) // n
    crops = [tile[i * side : (i + 1) * side, j * side : (j + 1) * side] for i in range(n) for j in range(n)]
    return np.mean([encode(crop) for crop in crops], axis=0)


def features_of(slide: SpatialData, scale: str, key: str = "X_he") -> np.ndarray:
    return slide["tiles"].obsm[f"{key}_{scale}"].astype(np.float32)


def test_features_are_those_of_crops_cut_by_hand(slide: SpatialData) -> None:
    """Crops go in as they are; tiles at the edges of the image are whole."""
    sd.pp.embed_tiles(slide, encoder=statistics())
    centres = slide["tiles"].obsm["spatial"]
    assert centres.min(axis=0).tolist() == [16, 16]
    assert centres.max(axis=0).tolist() == [128 - 16, 192 - 16]
    module = Statistics()

    def encode(crop: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(crop / 255).permute(2, 0, 1)[None].float())[0].numpy()

    for scale, n in SIDES.items():
        expected = [by_hand(tile, n, encode) for tile in tiles_by_hand(slide)]
        assert slide["tiles"].obsm[f"X_he_{scale}"].dtype == np.float16
        np.testing.assert_allclose(features_of(slide, scale), expected, atol=1e-3)
    # Products of neighbours at the crops' edges are lost: scales differ.
    assert np.abs(features_of(slide, "micro") - features_of(slide, "macro")).max() > 2e-3


@pytest.mark.parametrize(("interpolation", "filtering"), [("bilinear", 2), ("bicubic", 3)])
@pytest.mark.parametrize("input_px", [24, 48])
def test_whole_crops_are_resized(slide: SpatialData, interpolation: Any, filtering: int, input_px: int) -> None:
    """As Pillow resizes each crop: nothing is cut off, whatever the encoder does with larger crops."""
    encoder = statistics(input_px=input_px, resize_px=60, interpolation=interpolation, **NORMAL)
    sd.pp.embed_tiles(slide, encoder=encoder)
    mean, std = np.array(NORMAL["mean"]), np.array(NORMAL["std"])

    def encode(crop: np.ndarray) -> np.ndarray:
        resized = np.asarray(Image.fromarray(crop).resize((input_px, input_px), Image.Resampling(filtering)))
        normalised = torch.from_numpy((resized / 255 - mean) / std).permute(2, 0, 1)[None].float()
        return Statistics()(normalised)[0].numpy()

    for scale, n in SIDES.items():
        expected = np.array([by_hand(tile, n, encode) for tile in tiles_by_hand(slide)])
        np.testing.assert_allclose(features_of(slide, scale), expected, atol=0.02)


def test_a_vision_transformer(make_slide: Make) -> None:
    """One of timm with random weights, crop by crop."""
    slide = make_slide(np.array([[0.5, 0.5], [40, 20]]), he_to_global=SCALED, shape=(384, 256))
    fill(slide, smooth_noise(384, 256))
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    encoder = sd.encoders.get("vit_tiny_patch16_224", weights="random")
    sd.pp.embed_tiles(slide, encoder=encoder)
    module = encoder.load()
    mean, std = (torch.tensor(values)[:, None, None] for values in (encoder.mean, encoder.std))

    @torch.inference_mode()
    def encode(crop: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float()
        resized = nn.functional.interpolate(pixels, (224, 224), mode=encoder.interpolation, antialias=True)
        return module((resized.clamp(0, 255) / 255 - mean) / std)[0].numpy()

    for scale, n in SIDES.items():
        expected = np.array([by_hand(tile, n, encode) for tile in tiles_by_hand(slide)])
        assert np.abs(expected).max() > 0.5
        np.testing.assert_allclose(features_of(slide, scale), expected, atol=5e-3)
    record = slide["tiles"].uns["stdistill"]["embed_tiles"]
    assert record["encoder"] == "vit_tiny_patch16_224-random"


def test_tiles_are_resampled_once(slide: SpatialData) -> None:
    """From 64 pixels to 48, then cut: crops of 12 px are not resampled themselves."""
    del slide.tables["tiles"], slide.shapes["tiles_squares"]
    sd.pp.tiles(slide, tile_px=48, mpp=0.5 * 64 / 48, min_cells=1)
    sd.pp.embed_tiles(slide, encoder=statistics())

    def encode(crop: np.ndarray) -> np.ndarray:
        return Statistics()(torch.from_numpy(crop / 255).permute(2, 0, 1)[None].float())[0].numpy()

    shown = [np.asarray(Image.fromarray(tile).resize((48, 48), Image.Resampling(2))) for tile in tiles_by_hand(slide)]
    for scale, n in SIDES.items():
        expected = [by_hand(tile, n, encode) for tile in shown]
        np.testing.assert_allclose(features_of(slide, scale), expected, atol=5e-3)


def test_texture_takes_crops_as_they_are(make_slide: Make) -> None:
    slide = make_slide(np.array([[0.5, 0.5]]), he_to_global=SCALED, shape=(140, 140))
    fill(slide, smooth_noise(140, 140))
    sd.pp.tiles(slide, min_cells=1, tile_px=128)
    sd.pp.embed_tiles(slide, encoder="texture")
    module = sd.encoders.get("texture").load()
    tile = torch.from_numpy(slide["he"].values[:, 1:129, 1:129] / 255)[None].float()
    crops = [tile[..., i : i + 32, j : j + 32] for i in range(0, 128, 32) for j in range(0, 128, 32)]
    expected = module(torch.cat(crops)).mean(dim=0).numpy()
    np.testing.assert_allclose(features_of(slide, "micro")[0], expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(features_of(slide, "macro")[0], module(tile)[0].numpy(), rtol=2e-3, atol=2e-3)


def test_any_batch_gives_the_same(slide: SpatialData) -> None:
    found = []
    for batch_size in (1, 3, 16, 500):
        sd.pp.embed_tiles(slide, encoder=statistics(input_px=24), batch_size=batch_size)
        found.append({scale: features_of(slide, scale) for scale in SIDES})
    for other in found[1:]:
        for scale in SIDES:
            np.testing.assert_allclose(other[scale], found[0][scale], atol=1e-3)


def test_several_encoders_are_side_by_side_at_each_scale(slide: SpatialData) -> None:
    """Also where none says how many features it gives."""
    colour = sd.encoders.from_module(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), name="colour", licence="own", **PLAIN
    )
    sd.pp.embed_tiles(slide, encoder=[statistics(), colour])
    sd.pp.embed_tiles(slide, encoder=statistics(), key_added="one")
    sd.pp.embed_tiles(slide, encoder=colour, key_added="other")
    for scale in SIDES:
        both = np.hstack([features_of(slide, scale, "one"), features_of(slide, scale, "other")])
        np.testing.assert_array_equal(features_of(slide, scale), both)
    records = slide["tiles"].uns["stdistill"]
    assert records["embed_tiles"]["encoder"] == "statistics+colour"
    assert {"embed_tiles", "embed_tiles_one", "embed_tiles_other"} <= records.keys()


def test_three_scales_read_no_more_than_one(slide: SpatialData) -> None:
    reads: list[None] = []
    fill(slide, smooth_noise(384, 256), lambda: reads.append(None))
    reads.clear()
    sd.pp.embed_tiles(slide, encoder=statistics())
    of_three = len(reads)
    reads.clear()
    sd.pp.embed_he(slide, encoder=statistics(), table_key="tiles", crop_px=64, mpp=0.5)
    assert 0 < of_three <= len(reads)  # which looks for the tissue under the centres as well


def test_a_run_that_was_killed_goes_on(make_slide: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stdistill._slide import plan

    monkeypatch.setattr(plan, "WINDOW_PX", 100)  # several windows
    slide = make_slide(300, he_to_global=SCALED, extent=120, shape=(300, 300))
    fill(slide, smooth_noise(300, 300))
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    monkeypatch.setattr(Interrupted, "calls", 0)
    encoder = sd.encoders.from_module(Interrupted(), **PLAIN)
    arguments = {"encoder": encoder, "batch_size": 16, "store": tmp_path / "store"}
    sd.pp.embed_tiles(slide, encoder=encoder, batch_size=16)
    undisturbed = {scale: features_of(slide, scale) for scale in SIDES}
    of_all = Interrupted.calls
    monkeypatch.setattr(Interrupted, "calls", 0)
    monkeypatch.setattr(Interrupted, "fails_at", of_all // 2)
    for scale in SIDES:
        del slide["tiles"].obsm[f"X_he_{scale}"]
    with pytest.raises(RuntimeError, match="the power failed"):
        sd.pp.embed_tiles(slide, **arguments)
    assert not set(slide["tiles"].obsm) - {"spatial"}
    sd.pp.embed_tiles(slide, **arguments)
    assert Interrupted.calls < 1.5 * of_all  # the finished windows were not computed again
    for scale in SIDES:
        np.testing.assert_array_equal(features_of(slide, scale), undisturbed[scale])
    made = Interrupted.calls
    sd.pp.embed_tiles(slide, **arguments)  # a complete store is read
    assert Interrupted.calls == made
    assert np.load(tmp_path / "store" / "features.npy").shape == (slide["tiles"].n_obs, 9)


def test_a_store_is_of_one_way_to_embed(slide: SpatialData, tmp_path: Path) -> None:
    sd.pp.embed_tiles(slide, encoder=statistics(input_px=24), store=tmp_path / "tiles")
    with pytest.raises(ValueError, match="is of another run"):
        sd.pp.embed_tiles(slide, encoder=statistics(input_px=32), store=tmp_path / "tiles")
    with pytest.raises(ValueError, match=r"is of another run \(.*crops_per_side: \[4, 2, 1\], now None"):
        sd.pp.embed_he(
            slide, encoder=statistics(input_px=24), table_key="tiles", store=tmp_path / "tiles", crop_px=64, mpp=0.5
        )


def test_the_record_repeats_it(slide: SpatialData) -> None:
    encoder = statistics(licence="own")
    sd.pp.embed_tiles(slide, encoder=encoder, device="cpu")
    tiles = slide["tiles"]
    record = tiles.uns["stdistill"]["embed_tiles"]
    expected = {"encoder": "statistics", "licence": "own", "revision": encoder.revision, "crop_px": 64, "mpp": 0.5}
    assert expected.items() <= record.items()
    assert {"key_added": "X_he", "n_tiles": tiles.n_obs, "device": "cpu", "image_key": "he"}.items() <= record.items()
    assert record["crop_um"] == pytest.approx(32)
    for scale in SIDES:
        origin = origin_of(tiles, f"X_he_{scale}")
        assert (origin["encoder"], origin["encoder_revision"], origin["crop_px"]) == (
            "statistics",
            encoder.revision,
            64,
        )
        assert images_of(tiles, f"X_he_{scale}") == [record["images"]]
        assert tiles.obs[f"X_he_{scale}_mpp"].unique().tolist() == [0.5]
    assert tiles.obs["X_he_micro_model"].equals(tiles.obs["X_he_macro_model"].rename("X_he_micro_model"))
    assert origin_of(tiles, "X_he") == {}
    tiles.obsm["X_he_meso"] = tiles.obsm["X_he_meso"] + np.float16(1)
    with pytest.warns(UserWarning, match=r"\.obsm\['X_he_meso'\] was changed since it was computed"):
        origin_of(tiles, "X_he_meso")


def test_tiles_of_other_encoders_are_told_apart(slide: SpatialData) -> None:
    other = sd.pp.embed_tiles(slide, encoder=statistics(name="another"), copy=True)
    sd.pp.embed_tiles(slide, encoder=statistics())
    assert other is not None
    with pytest.raises(ValueError, match="was computed with different encoder in the tables"):
        common_origin([slide["tiles"], other["tiles"]], "X_he_meso")
    assert common_origin([slide["tiles"], slide["tiles"]], "X_he_meso")["mpp"] == 0.5


def test_a_copy(slide: SpatialData) -> None:
    copy = sd.pp.embed_tiles(slide, encoder=statistics(), copy=True)
    assert copy is not None
    assert "X_he_micro" in copy["tiles"].obsm
    assert "X_he_micro" not in slide["tiles"].obsm
    assert copy["table"] is slide["table"]


def test_features_of_a_subset(slide: SpatialData) -> None:
    """Tables may be filtered and reordered: rows are found by where their centres lie."""
    sd.pp.embed_tiles(slide, encoder=statistics())
    whole = features_of(slide, "micro")
    slide.tables["tiles"] = slide["tiles"][[3, 1]].copy()
    sd.pp.embed_tiles(slide, encoder=statistics())
    np.testing.assert_array_equal(features_of(slide, "micro"), whole[[3, 1]])


def test_the_default_works_offline(attempts: list[Any], slide: SpatialData) -> None:
    del slide.tables["tiles"], slide.shapes["tiles_squares"]
    sd.pp.tiles(slide, min_cells=1, tile_px=128)
    with pytest.warns(UserWarning, match='encoder="auto" uses the built-in encoder'):
        sd.pp.embed_tiles(slide)
    assert features_of(slide, "meso").shape[1] == 276
    assert np.isfinite(features_of(slide, "meso")).all()


class Returns(nn.Module):
    """What a function makes of the crops."""

    def __init__(self, value: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: torch.Tensor) -> Any:
        return self.value(images)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda images: images.mean((2, 3)) * torch.nan, r"returned NaN.* for \d of \d crops"),
        (lambda images: images, r"returned \(\d+, 3, 16, 16\) for \d+ crops; expected \(\d+, d\)"),
        (
            lambda images: images.flatten(1),
            r"gives \[768, 3072, 12288\] features for crops of \[16, 32, 64\] px.*input_px=",
        ),
    ],
)
def test_bad_modules(slide: SpatialData, value: Callable, message: str) -> None:
    encoder = sd.encoders.from_module(Returns(value), name="bad", **PLAIN)
    with pytest.raises(ValueError, match=message):
        sd.pp.embed_tiles(slide, encoder=encoder)
    assert set(slide["tiles"].obsm) == {"spatial"}


def test_tiles_whose_crops_are_too_small(make_slide: Make) -> None:
    """A sixteenth of 64 px has 16 along a side, of which statistics mean nothing."""
    slide = make_slide(he_to_global=SCALED)
    sd.pp.tiles(slide, tile_px=64, mpp=0.5, min_cells=1)
    with pytest.raises(ValueError, match=r"'texture' .* 32 px .* have 16 px\. .* sd\.pp\.tiles\(tile_px=128\)"):
        sd.pp.embed_tiles(slide, encoder="texture")
    vit = sd.encoders.get("vit_tiny_patch16_224", weights="random").load()
    as_they_are = sd.encoders.from_module(vit, name="vit", **PLAIN)
    with pytest.raises(ValueError, match=r"'vit' failed .* 64 px: Input height \(16\).*\(224\).* input_px=: crops are"):
        sd.pp.embed_tiles(slide, encoder=as_they_are)
    assert set(slide["tiles"].obsm) == {"spatial"}


def test_no_tiles(make_slide: Make, make_cells: Callable[..., ad.AnnData]) -> None:
    slide = make_slide(he_to_global=SCALED)
    with pytest.raises(KeyError, match=r"tiles_key='tiles' is not a table of tiles.*sd\.pp\.tiles"):
        sd.pp.embed_tiles(slide, encoder="texture")
    with pytest.raises(ValueError, match="'table' is not one of tiles"):
        sd.pp.embed_tiles(slide, encoder="texture", tiles_key="table")
    with pytest.raises(TypeError, match="An AnnData holds no image"):
        sd.pp.embed_tiles(make_cells(5), encoder="texture")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"precision": "float8"}, "precision must be one of"),
        ({"device": "tpu"}, "device must be one of"),
        ({"key_added": "a b"}, "key_added must be a name"),
        ({"devices": 2}, "Several devices write to one store"),
    ],
)
def test_bad_arguments(slide: SpatialData, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sd.pp.embed_tiles(slide, encoder="texture", **changes)
