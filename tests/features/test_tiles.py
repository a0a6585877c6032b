from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import stdistill as sd
from stdistill._features.tiles import TileModule, cut, of_tiles, split_scales
from stdistill.encoders import Encoder

PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}


class Means(nn.Module):
    """Colours, and the largest number of crops that came at once."""

    largest = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        type(self).largest = max(type(self).largest, len(images))
        return torch.cat([images.mean((2, 3)), images.amax((2, 3)), images.amin((2, 3))], dim=1)


def encoder(name: str = "means", **changes: Any) -> Encoder:
    return sd.encoders.from_module(Means(), name=name, **PLAIN | changes)


def test_crops_are_cut_row_by_row() -> None:
    tiles = torch.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    crops = cut(tiles, 4)
    assert crops.shape == (32, 3, 2, 2)
    for tile in range(2):
        for place in range(16):
            top, left = 2 * (place // 4), 2 * (place % 4)
            expected = tiles[tile, :, top : top + 2, left : left + 2]
            assert torch.equal(crops[16 * tile + place], expected)
    assert torch.equal(cut(tiles, 1), tiles)


def test_means_of_each_scale_are_side_by_side() -> None:
    tiles = torch.rand(5, 3, 16, 16)
    found = TileModule(encoder(), Means(), (4, 2, 1), at_once=7)(tiles).view(5, 3, 9)
    assert torch.allclose(found[:, :, :3], tiles.mean((2, 3))[:, None].expand(5, 3, 3), atol=1e-6)
    assert torch.allclose(found[:, 2, 3:6], tiles.amax((2, 3)))
    assert torch.allclose(found[:, 1, 6:], cut(tiles, 2).amin((2, 3)).view(5, 4, 3).mean(1))
    assert (found[:, 0, 3:6] < found[:, 2, 3:6]).all()


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_no_more_crops_at_once_than_are_asked_for(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(Means, "largest", 0)
    tiles = torch.rand(3, 3, 16, 16)
    found = TileModule(encoder(), Means(), (4, 2, 1), at_once)(tiles)
    assert Means.largest == min(at_once, 48)
    monkeypatch.setattr(Means, "largest", 0)
    assert torch.allclose(found, TileModule(encoder(), Means(), (4, 2, 1), 48)(tiles), atol=1e-6)


def test_bicubic_weights_stay_between_black_and_white() -> None:
    """Where a crop is black beside white, they would reach beyond both; after the normalisation, too."""
    tiles = torch.zeros(1, 3, 16, 16)
    tiles[..., 5:] = 1
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    shift, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))
    described = encoder(input_px=32, interpolation="bicubic", mean=mean, std=std)
    found = TileModule(described, Means(), (1,), 8)((tiles - shift) / scale)[0]
    np.testing.assert_allclose(found[3:6], (1 - shift.ravel()) / scale.ravel(), rtol=1e-5)
    np.testing.assert_allclose(found[6:], -shift.ravel() / scale.ravel(), rtol=1e-5)


def test_encoders_of_tiles() -> None:
    (derived,), at_once = of_tiles([encoder(dim=9, input_px=24, resize_px=32)], (4, 2, 1), 40, "cpu")
    assert (derived.name, derived.dim, derived.input_px, derived.resize_px) == ("means", 27, None, None)
    assert at_once == 2  # 32 of the 40 crops
    assert derived.load()(torch.rand(2, 3, 64, 64)).shape == (2, 27)
    (unknown,), at_once = of_tiles([encoder()], (4, 2, 1), None, "cuda")
    assert unknown.dim is None
    assert at_once == 16
    assert of_tiles([encoder()], (4, 2, 1), 3, "cpu")[1] == 1


def test_parts_of_several_encoders() -> None:
    """The second does not say how many features it gives, and is tried."""
    features = np.arange(2 * 3 * (2 + 9)).reshape(2, -1).astype(np.float16)
    first = encoder("first", dim=2)
    micro, meso, macro = split_scales(features, [first, encoder("second")], 3, tile_px=16)
    assert micro[0].tolist() == [0, 1, *range(6, 15)]
    assert meso[0].tolist() == [2, 3, *range(15, 24)]
    assert macro[0].tolist() == [4, 5, *range(24, 33)]
    assert [part[0].tolist() for part in split_scales(features[:, :6], [first], 3, 16)] == [[0, 1], [2, 3], [4, 5]]
