"""Crops of a window that are encoded together: as they are one by one, and nothing else has a part in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor
from torch.nn import functional

from stdistill.encoders._texture import TextureEncoder, windows

SIDE = 160
WINDOW = 384


@pytest.fixture(scope="module")
def encoder() -> TextureEncoder:
    return TextureEncoder()


@pytest.fixture(scope="module")
def image() -> Tensor:
    """A window of 8-bit pixels with structure at several scales."""
    generator = torch.Generator().manual_seed(0)
    levels = [torch.rand(1, 3, WINDOW // s, WINDOW // s, generator=generator) for s in (1, 4, 16, 64)]
    mixed = sum(functional.interpolate(level, (WINDOW, WINDOW), mode="bilinear") for level in levels)
    assert isinstance(mixed, Tensor)
    return (mixed[0] / 4 * 255).round() / 255


@pytest.fixture(scope="module")
def origins() -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(64, WINDOW - 64 - SIDE, (12, 2))).double()


@pytest.fixture(scope="module")
def features(encoder: TextureEncoder, image: Tensor, origins: Tensor) -> Tensor:
    return encoder.encode_window(image, origins, SIDE)


def test_one_float32_row_per_crop(encoder: TextureEncoder, features: Tensor) -> None:
    assert features.shape == (12, encoder.dim)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


def test_the_window_does_not_matter(encoder: TextureEncoder, image: Tensor, origins: Tensor, features: Tensor) -> None:
    """Cells of any tiling of the slide have the same features."""
    assert encoder.grid_px == 64
    for left, top, right, bottom in ((64, 0, WINDOW, WINDOW), (0, 64, 320, WINDOW), (64, 64, 320, 320)):
        corner = torch.tensor([left, top])
        found = encoder.encode_window(image[:, top:bottom, left:right], origins - corner, SIDE)
        torch.testing.assert_close(found, features, rtol=1e-4, atol=1e-4)


def test_nothing_beyond_a_crop_is_seen(encoder: TextureEncoder, image: Tensor, features: Tensor) -> None:
    for x, y in ((128, 64), (131, 77), (125.4, 90.7)):
        left, top = int(np.floor(x)), int(np.floor(y))
        side = SIDE + (x != left)
        alone = torch.rand(image.shape, generator=torch.Generator().manual_seed(2))
        inside = slice(top, top + side), slice(left, left + side)
        alone[:, *inside] = image[:, *inside]
        place = torch.tensor([[x, y]], dtype=torch.float64)
        found, expected = (encoder.encode_window(each, place, SIDE) for each in (alone, image))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_other_crops_do_not_matter(encoder: TextureEncoder, image: Tensor, origins: Tensor, features: Tensor) -> None:
    some = torch.tensor([7, 3])
    torch.testing.assert_close(encoder.encode_window(image, origins[some], SIDE), features[some], rtol=1e-5, atol=1e-5)


def test_the_size_of_tiles_does_not_matter(
    encoder: TextureEncoder, image: Tensor, origins: Tensor, features: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU computes a large window at once, a CPU parts of it."""
    monkeypatch.setattr(windows, "TILE_CPU", 80)
    torch.testing.assert_close(encoder.encode_window(image, origins, SIDE), features, rtol=1e-4, atol=1e-4)


def test_a_hundredth_of_a_pixel_changes_little(
    encoder: TextureEncoder, image: Tensor, origins: Tensor, features: Tensor
) -> None:
    """But for the coarse maps, which lie where whole pixels of 8 px are."""
    moved = encoder.encode_window(image, origins + 0.01, SIDE)
    assert ((moved - features).abs() < 0.01).float().mean() > 0.9


def test_autocasting_changes_nothing(encoder: TextureEncoder, image: Tensor, origins: Tensor, features: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder.encode_window(image, origins, SIDE), features)


def test_one_colour(encoder: TextureEncoder, origins: Tensor) -> None:
    """Its features are those of a crop, whatever its deviation is rounded to."""
    colour = torch.tensor([0.6, 0.4, 0.7])[:, None, None].expand(3, WINDOW, WINDOW)
    found = encoder.encode_window(colour, origins, SIDE)
    expected = encoder(colour[None, :, :SIDE, :SIDE])
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-3, atol=2e-3)


def test_all_is_computed_on_the_device_of_the_window(image: Tensor, origins: Tensor) -> None:
    found = TextureEncoder().to("meta").encode_window(image.to("meta"), origins, SIDE)
    assert found.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same(encoder: TextureEncoder, image: Tensor, origins: Tensor, features: Tensor) -> None:
    found = TextureEncoder().to("cuda").encode_window(image.to("cuda"), origins, SIDE).cpu()
    torch.testing.assert_close(found, features, rtol=1e-3, atol=1e-4)


def test_nearly_those_of_the_crops(encoder: TextureEncoder, shared_data: Path) -> None:
    """Of real tissue: what is seen of most features is the same, and nothing is systematically off."""
    slide = tifffile.imread(shared_data / "he_small_images" / "CMU-1-Small-Region.svs", key=0)
    image = torch.from_numpy(slide[:1024, :1024].copy()).permute(2, 0, 1) / 255
    places = np.random.default_rng(0).integers(0, 1024 - 224, (40, 2))
    crops = torch.stack([image[:, y : y + 224, x : x + 224] for x, y in places])
    by_crop, by_window = encoder(crops), encoder.encode_window(image, torch.from_numpy(places).double(), 224)
    spread = by_crop.std(0)
    correlation = [np.corrcoef(by_crop[:, i], by_window[:, i])[0, 1] for i in range(encoder.dim)]
    assert np.median(correlation) > 0.9
    assert np.mean(np.array(correlation) > 0.8) > 0.75
    off = ((by_window - by_crop).mean(0) / spread).abs()
    assert off.median() < 0.1
    assert off.max() < 1
