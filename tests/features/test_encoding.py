"""Encoders of whole windows: where crops are in them, and beside encoders of crops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import stdistill as sd
from stdistill._features import encoding
from stdistill._features.compute import compute_features
from stdistill._features.encoding import measure_dim
from stdistill._slide.plan import Slide, crop_origins, plan_crops
from stdistill._slide.pyramid import SlideLevel

SIDE, N = 12, 60
GLASS = np.array([240, 250, 230], dtype=np.uint8)
PIXELS = np.random.default_rng(0).integers(0, 255, (150, 130, 3), dtype=np.uint8)


class Corner(nn.Module):
    """The colour of the upper left pixel, of a crop or of each crop of a window."""

    grid_px = 8
    n_windows = 0

    def forward(self, images: Tensor) -> Tensor:
        return images[..., 0, 0] * 255

    def encode_window(self, image: Tensor, origins: Tensor, side_px: int) -> Tensor:
        type(self).n_windows += 1
        assert all(side % self.grid_px == 0 for side in image.shape[1:])
        assert (origins >= 0).all()
        assert (origins + side_px <= torch.tensor(image.shape[:0:-1])).all()
        x, y = origins.round().long().T
        return image[:, y, x].T * 255


def encoder(name: str = "corner", **changes: Any) -> sd.encoders.Encoder:
    return replace(sd.encoders.from_module(Corner(), name=name, mean=(0, 0, 0), std=(1, 1, 1)), **changes)


def slide() -> Slide:
    """Crops of which some reach over the edge."""
    level = SlideLevel(da.from_array(np.moveaxis(PIXELS, -1, 0), chunks=(3, 50, 50)), np.ones(2))
    places = np.random.default_rng(1).uniform(0, (130, 150), (N, 2))
    return Slide(plan_crops(level, np.arange(N), crop_origins(places, SIDE), SIDE), GLASS)


def embed(*encoders: sd.encoders.Encoder, **changes: Any) -> tuple[np.ndarray, dict[str, Any]]:
    how: dict[str, Any] = {"crop_px": SIDE, "mpp": None, "batch_size": 7, "precision": None, "stain": None}
    how |= {"store": None, "resume": True, "device": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
    names = np.array([f"cell-{i}" for i in range(N)])
    return compute_features([slide()], list(encoders), names, **how | changes)


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("stdistill._slide.plan.WINDOW_PX", 50)


@pytest.mark.parametrize("block_px", [2048, 16])
def test_each_crop_is_found_in_its_window(block_px: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is taken in squares, and beyond the edge of the slide, where glass is."""
    monkeypatch.setattr(encoding, "BLOCK_PX", block_px)
    expected, by_crops = embed(encoder())
    Corner.n_windows = 0
    found, by_windows = embed(encoder(windows_from_px=SIDE))
    np.testing.assert_array_equal(found, expected)
    assert Corner.n_windows >= (9 if block_px == 2048 else 20)
    assert by_windows["revision"] == f"{by_crops['revision']}-windows-1"


def test_smaller_crops_are_cut() -> None:
    Corner.n_windows = 0
    _, used = embed(encoder(windows_from_px=SIDE + 1))
    assert Corner.n_windows == 0
    assert "windows" not in used["revision"]


def test_encoders_of_both_kinds_stand_side_by_side() -> None:
    first, last = encoder("first"), encoder("last", mean=(0.5, 0.5, 0.5))
    expected, _ = embed(first, last)
    for windows in ((SIDE, None), (None, SIDE), (SIDE, SIDE)):
        both = [replace(one, windows_from_px=least) for one, least in zip((first, last), windows, strict=True)]
        np.testing.assert_array_equal(embed(*both)[0], expected)


def test_tiles_are_cut_into_crops() -> None:
    """Whatever their side."""
    Corner.n_windows = 0
    expected, used = embed(encoder(), crops_per_side=(2, 1))
    found, as_well = embed(encoder(windows_from_px=SIDE), crops_per_side=(2, 1))
    np.testing.assert_array_equal(found, expected)
    assert Corner.n_windows == 0
    assert used == as_well


def test_a_store_of_crops_is_not_one_of_windows(tmp_path: Path) -> None:
    """Nor the other way round, whether weights say which they are or not."""
    for revision in (None, "a"):
        folder = tmp_path / str(revision)
        embed(encoder(revision=revision), store=folder)
        with pytest.raises(ValueError, match=r"another run \(encoders: .*windows-1"):
            embed(encoder(revision=revision, windows_from_px=SIDE), store=folder)
        embed(encoder(revision=revision, windows_from_px=SIDE), store=folder, resume=False)
        with pytest.raises(ValueError, match=r"another run \(encoders: .*windows-1"):
            embed(encoder(revision=revision), store=folder)


def test_a_module_that_takes_one_side_only() -> None:
    """It is tried before pixels are read; resampled to that side it works."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    options: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1), "name": "own"}
    own = sd.encoders.from_module(module, **options)
    with pytest.raises(
        ValueError, match=r"'own' failed when it was tried on 24 px: .*another side, .* with input_px=:"
    ):
        measure_dim(own, module, 24)
    assert measure_dim(sd.encoders.from_module(module, **options, input_px=16), module, 24) == 4


def test_what_it_returns_is_checked() -> None:
    wrong = encoder(windows_from_px=SIDE, dim=5)
    with pytest.raises(ValueError, match=r"'corner' returned \(\d+, 3\); it was announced to give 5 features"):
        embed(wrong)
