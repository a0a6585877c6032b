"""Features of planned crops: their order, and what makes a store one of something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from torch import nn

import stdistill as sd
from stdistill._features import compute
from stdistill._features.compute import compute_features
from stdistill._features.store import FeatureStore
from stdistill._slide.plan import Slide, crop_origins, plan_crops
from stdistill._slide.pyramid import SlideLevel

SIDE = 8
N = 40
GLASS = np.array([240, 240, 240], dtype=np.uint8)


class Corner(nn.Module):
    """The colour of the upper left pixel, and the mean of all."""

    n_crops = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        type(self).n_crops += len(images)
        return torch.cat([images[..., 0, 0], images.mean((2, 3))], dim=1) * 255


def encoder(name: str = "corner", **changes: Any) -> sd.encoders.Encoder:
    return sd.encoders.from_module(Corner(), name=name, mean=(0, 0, 0), std=(1, 1, 1), **changes)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (120, 90, 3), dtype=np.uint8)


def slide_of(pixels: np.ndarray, rows: np.ndarray, seed: int = 1) -> Slide:
    """Crops of some rows of a table, wholly on the image."""
    level = SlideLevel(da.from_array(np.moveaxis(pixels, -1, 0), chunks=(3, 50, 50)), np.ones(2))
    places = np.random.default_rng(seed).uniform(SIDE, (90 - SIDE, 120 - SIDE), (len(rows), 2))
    return Slide(plan_crops(level, rows, crop_origins(places, SIDE), SIDE), GLASS)


def embed(slides: list[Slide], *encoders: sd.encoders.Encoder, **changes: Any) -> tuple[np.ndarray, dict[str, Any]]:
    how: dict[str, Any] = {"crop_px": SIDE, "mpp": None, "batch_size": 7, "precision": None, "stain": None}
    how |= {"store": None, "resume": True, "device": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
    names = np.array([f"cell-{i}" for i in range(N)])
    return compute_features(slides, list(encoders) or [encoder()], changes.pop("names", names), **how | changes)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("stdistill._slide.plan.WINDOW_PX", 32)
    return tmp_path / "cache"


def test_features_stand_in_the_order_of_the_table(pixels: np.ndarray, own_cache: Path) -> None:
    """Of two slides whose cells are mixed; a cell that is on neither has none, and no store is left."""
    rows = np.random.default_rng(2).permutation(N)[: N - 3]
    slides = [slide_of(pixels, rows[:20]), slide_of(255 - pixels, rows[20:], seed=3)]
    features, used = embed(slides)
    assert features.dtype == np.float16
    assert features.shape == (N, 6)
    for slide, image in zip(slides, (pixels, 255 - pixels), strict=True):
        for row, (x, y) in zip(slide.plan.order, slide.plan.boxes.astype(int), strict=True):
            crop = image[y : y + SIDE, x : x + SIDE].astype(float)
            np.testing.assert_allclose(features[row], [*crop[0, 0], *crop.mean((0, 1))], rtol=1e-3)
    assert np.flatnonzero(np.isnan(features[:, 0])).tolist() == sorted(set(range(N)) - set(rows))
    assert used["device"] == "cpu"
    assert torch.__version__.startswith(used["torch_version"])
    assert not list(own_cache.rglob("*.npy"))


def test_encoders_stand_side_by_side(pixels: np.ndarray) -> None:
    slides = [slide_of(pixels, np.arange(N))]
    other = replace(encoder("other"), mean=(0.5, 0.5, 0.5))
    both, used = embed(slides, replace(encoder(), revision="a"), other)
    np.testing.assert_array_equal(both[:, :6], embed(slides)[0])
    np.testing.assert_allclose(both[:, 6:], both[:, :6].astype(float) - 127.5, atol=0.2)
    assert used["revision"] == f"a+{other.revision}"


def test_tiles_are_described_at_each_scale(pixels: np.ndarray) -> None:
    """The mean features of 2 × 2 crops, and those of the tile as a whole."""
    slide = slide_of(pixels, np.arange(N))
    features, _ = embed([slide], crops_per_side=(2, 1))
    assert features.shape == (N, 12)
    half = SIDE // 2
    for row, (x, y) in zip(slide.plan.order, slide.plan.boxes.astype(int), strict=True):
        tile = pixels[y : y + SIDE, x : x + SIDE].astype(float)
        corners = tile[::half, ::half].mean((0, 1))
        expected = [*corners, *tile.mean((0, 1)), *tile[0, 0], *tile.mean((0, 1))]
        np.testing.assert_allclose(features[row], expected, rtol=2e-3)


def test_a_store_is_read_and_not_computed_again(pixels: np.ndarray, tmp_path: Path) -> None:
    """Whatever the batches; the encoder is not even loaded."""
    slides, folder = [slide_of(pixels, np.arange(N))], tmp_path / "store"
    features, _ = embed(slides, store=folder)

    def fail() -> nn.Module:
        raise AssertionError("loaded")

    found, used = embed(slides, replace(encoder(), load=fail), store=folder, batch_size=3)
    np.testing.assert_array_equal(found, features)
    assert used["device"] == "cpu"
    Corner.n_crops = 0
    embed(slides, store=folder, resume=False)
    assert Corner.n_crops >= N


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ("pixels", "image"),
        ("glass", "image"),
        ("places", "cells"),
        ("names", "cells"),
        ("encoder", "encoders"),
        ("mean", "encoders"),
        ("precision", "precision"),
        ("stain", "stain_normalization"),
        ("mpp", "mpp"),
        ("scales", "crops_per_side"),
    ],
)
def test_a_store_of_something_else_is_refused(pixels: np.ndarray, tmp_path: Path, change: str, entry: str) -> None:
    """And says what it is of."""
    rows, folder = np.arange(N), tmp_path / "store"
    embed([slide_of(pixels, rows)], store=folder)
    slides, encoders, how = [slide_of(pixels, rows)], [encoder()], {}
    if change == "pixels":
        slides = [slide_of(255 - pixels, rows)]
    elif change == "glass":
        slides = [replace(slides[0], background=GLASS - 1)]
    elif change == "places":
        slides = [slide_of(pixels, rows, seed=9)]
    elif change == "names":
        how = {"names": np.array([f"other-{i}" for i in range(N)])}
    elif change == "encoder":
        encoders = [encoder("another")]
    elif change == "mean":
        encoders = [replace(encoder(), mean=(0.1, 0.1, 0.1))]
    elif change == "scales":
        how = {"crops_per_side": (1,)}
    else:
        how = {change: {"precision": "bfloat16", "stain": "{}", "mpp": 0.5}[change]}
    before = FeatureStore(folder).features(np.array([f"cell-{i}" for i in slides[0].plan.order])).copy()
    with pytest.raises(ValueError, match=rf"is of another run \(.*{entry}: .*resume=False to delete it"):
        embed(slides, *encoders, store=folder, **how)
    kept = FeatureStore(folder).features(np.array([f"cell-{i}" for i in slides[0].plan.order]))
    np.testing.assert_array_equal(np.sort(kept, axis=0), np.sort(before, axis=0))


def test_images_are_told_apart_by_what_is_around_the_cells(pixels: np.ndarray) -> None:
    """Not by every pixel, which would take as long as the features; and whichever windows they are read in."""
    rows = np.arange(N)
    mark = compute._hash_images([slide_of(pixels, rows)])
    assert compute._hash_images([slide_of(pixels.copy(), rows)]) == mark
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stdistill._slide.plan.WINDOW_PX", 500)
        other = slide_of(pixels, rows)
    assert compute._hash_images([other]) == mark
    assert compute._hash_windows([other]) != compute._hash_windows([slide_of(pixels, rows)])
    assert compute._hash_images([slide_of(pixels[:-1], rows)]) != mark


def test_cells_are_told_apart_by_their_names_and_places(pixels: np.ndarray) -> None:
    names = np.array([f"cell-{i}" for i in range(N)])
    slide = slide_of(pixels, np.arange(N))
    mark = compute._hash_cells([slide], names)
    assert compute._hash_cells([slide], names.astype(object)) == mark
    assert compute._hash_cells([slide], names[::-1]) != mark
    assert compute._hash_cells([slide_of(pixels, np.arange(N), seed=5)], names) != mark


def test_stores_of_earlier_versions_say_on_what_they_were_made() -> None:
    """They wrote the device and torch's version among what they are compared by."""
    entries = [{"revision": None}, {"revision": "ab"}]

    def of(**fingerprint: Any) -> Any:
        return compute._used(type("Store", (), {"fingerprint": {"encoders": entries, **fingerprint}})())  # type: ignore[arg-type]

    assert of(device="cuda") == {"device": "cuda", "revision": "unknown+ab"}
    assert of(made_with={"device": "cpu", "torch": "2.0"}) == {
        "device": "cpu",
        "torch_version": "2.0",
        "revision": "unknown+ab",
    }
