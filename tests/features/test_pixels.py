"""Pixels of tiles in a file: those that features are made of, of the tiles that are asked for, and only meanwhile."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from spatialdata import SpatialData

import stdistill as sd
from stdistill._features.pixels import TilePixels, tile_pixels
from stdistill._features.tiles import TileModule
from stdistill._runs.finetuning import _plan


@pytest.fixture(scope="module")
def slide(bundle: Path) -> SpatialData:
    slide = sd.pp.read_xenium(bundle)
    sd.pp.tiles(slide, tile_px=128, min_cells=2)
    sd.pp.embed_tiles(slide, encoder="texture")
    return slide


def plan(slide: SpatialData, chosen: np.ndarray):  # type: ignore[no-untyped-def]
    return _plan(slide, slide["tiles"], chosen, "tiles")


def test_features_are_made_of_them(slide: SpatialData, tmp_path: Path) -> None:
    """But for the rounding of pixels that were resampled."""
    tiles = slide["tiles"]
    chosen = np.ones(tiles.n_obs, dtype=bool)
    with tile_pixels([plan(slide, chosen)], [tiles.n_obs], 128, "bilinear", tmp_path) as pixels:
        assert pixels.shape == (tiles.n_obs, 3, 128, 128)
        found = torch.from_numpy(pixels[np.arange(tiles.n_obs)])
    texture = sd.encoders.get("texture")
    features = TileModule(texture, texture.load(), (1,), 64)(found / 255).numpy()
    expected = tiles.obsm["X_he_macro"].astype(np.float32)
    spread = expected.std(axis=0) + 1e-3
    assert np.median(np.abs(features - expected) / spread) < 0.01


def test_rows_of_several_tables(slide: SpatialData, tmp_path: Path) -> None:
    """Those that are not asked for are not read."""
    n = slide["tiles"].n_obs
    every, some = np.ones(n, dtype=bool), np.arange(n) % 3 == 0
    plans = [plan(slide, every), plan(slide, some)]
    with tile_pixels(plans, [n, n], 128, "bilinear", tmp_path) as pixels:
        first, second = np.split(pixels[np.arange(2 * n)], 2)
        assert pixels[np.array([3, 1])].dtype == np.float32
        np.testing.assert_array_equal(pixels[np.array([3, 1])], first[[3, 1]])
    assert (first.reshape(n, -1).max(axis=1) > 0).all()
    np.testing.assert_array_equal(second[some], first[some])
    assert not second[~some].any()


def test_the_file_is_there_meanwhile(slide: SpatialData, tmp_path: Path) -> None:
    """Another run has its own; what a killed one left is written over."""
    n = slide["tiles"].n_obs
    plans = [plan(slide, np.ones(n, dtype=bool))]
    (tmp_path / "pixels-1").mkdir()
    (tmp_path / "pixels-1" / "pixels.npy").write_text("cut off")
    with (
        tile_pixels(plans, [n], 128, "bilinear", tmp_path) as pixels,
        tile_pixels(plans, [n], 128, "bilinear", tmp_path) as others,
    ):
        assert [each.path.parent.name for each in (pixels, others)] == ["pixels-1", "pixels-2"]
        assert isinstance(pixels, TilePixels)
        sent = pickle.dumps(pixels)
        assert len(sent) < 1000  # to another process goes the path
        np.testing.assert_array_equal(pickle.loads(sent)[np.array([0])], others[np.array([0])])
    assert not list(tmp_path.glob("*/"))


def test_a_full_disk(slide: SpatialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    plans = [plan(slide, np.ones(slide["tiles"].n_obs, dtype=bool))]
    with (
        pytest.raises(OSError, match=r"The pixels .* take [\d.]+ [kM]iB .* has 0.98 kiB left: .*checkpoint_dir="),
        tile_pixels(plans, [slide["tiles"].n_obs], 128, "bilinear", tmp_path),
    ):
        pass
    assert not list(tmp_path.glob("*/"))
