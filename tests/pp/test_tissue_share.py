from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import spatialdata
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation

import stdistill as sd

PINK = np.array([200, 120, 180], dtype=np.uint8)


def with_image(slide: SpatialData, pixels: np.ndarray) -> SpatialData:
    """Replace the H&E, in its place."""
    transformations = get_transformation(slide["he"], get_all=True)
    slide.images["he"] = Image2DModel.parse(
        np.moveaxis(pixels, -1, 0), dims=("c", "y", "x"), transformations=transformations
    )
    return slide


@pytest.fixture
def half(make_slide: Callable) -> Callable[..., SpatialData]:
    """A slide of which the left half, 100 of 200 pixels, is tissue, on glass of some brightness."""

    def make(glass: int) -> SpatialData:
        um = np.array([[50, 100], [90, 100], [100, 100], [150, 100], [500, 100]]) * 0.425
        slide = make_slide(um, shape=(200, 200), he_to_global=np.diag([2.0, 2, 1]))
        pixels = np.full((200, 200, 3), glass, dtype=np.uint8)
        pixels[:, :100] = (PINK * (glass / 255)).astype(np.uint8)
        return with_image(slide, pixels)

    return make


pytestmark = pytest.mark.filterwarnings("ignore:.*lie on the image")


@pytest.mark.parametrize("glass", [255, 225, 205])
def test_by_hand_whatever_the_light(half: Callable, glass: int) -> None:
    slide = half(glass)
    sd.pp.tissue_share(slide, crop_px=40)
    found = slide["table"].obs["he_tissue_share"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1, 0.75, 0.5, 0, np.nan])
    record = slide["table"].uns["stdistill"]["tissue_share"]
    assert record["white_points"].tolist() == [[glass] * 3]
    assert (record["crop_px"], record["native"], record["image_key"]) == (40, True, "he")
    assert slide["table"].n_obs == 5


def test_what_was_filled_in_is_no_tissue(half: Callable) -> None:
    """Black in the place of glass, as beside an image that was turned."""
    slide = half(0)
    pixels = np.zeros((200, 200, 3), dtype=np.uint8)
    pixels[:, :100] = PINK
    with_image(slide, pixels)
    sd.pp.tissue_share(slide, crop_px=40)
    np.testing.assert_allclose(slide["table"].obs["he_tissue_share"], [1, 0.75, 0.5, 0, np.nan])


def test_an_absolute_threshold_does_not_carry(half: Callable) -> None:
    bright, dim = half(250), half(210)
    for slide in (bright, dim):
        sd.pp.tissue_share(slide, crop_px=40, rgb_threshold=220)
    assert bright["table"].obs["he_tissue_share"].iloc[3] == 0
    assert dim["table"].obs["he_tissue_share"].iloc[3] == 1  # all of its glass is darker than that
    assert dim["table"].uns["stdistill"]["tissue_share"]["rgb_threshold"] == 220


def test_crops_are_those_of_the_features(half: Callable) -> None:
    slide = half(250)
    slide.tables["table"] = slide["table"][:4].copy()
    sd.pp.embed_he(slide, encoder="texture", crop_px=64)
    sd.pp.tissue_share(slide)
    assert slide["table"].uns["stdistill"]["tissue_share"]["crop_px"] == 64
    np.testing.assert_allclose(slide["table"].obs["he_tissue_share"], [1, 42 / 64, 0.5, 0])
    sd.pp.embed_he(slide, encoder="texture", crop_px=32, mpp=0.85, key_added="X_coarse")
    sd.pp.tissue_share(slide, use_rep="X_coarse", key_added="coarse_share")
    np.testing.assert_allclose(slide["table"].obs["coarse_share"], [1, 42 / 64, 0.5, 0])
    record = slide["table"].uns["stdistill"]["tissue_share_coarse_share"]
    assert (record["mpp"], record["native"]) == (0.85, False)


def test_is_what_the_crops_show(bundle: Path) -> None:
    slide = sd.pp.read_xenium(bundle)
    cells = slide["table"].obs_names[::20]
    sd.pp.tissue_share(slide, crop_px=64)
    white = slide["table"].uns["stdistill"]["tissue_share"]["white_points"][0]
    crops = sd.get.he_crops(slide, cells=cells, crop_px=64).astype(float)
    density = np.log(white / np.maximum(crops, 1))
    expected = 1 - (density < 0.15).all(axis=-1).mean(axis=(1, 2))
    np.testing.assert_allclose(slide["table"].obs.loc[cells, "he_tissue_share"], expected, atol=1e-6)


def test_each_image_has_a_white_point_of_its_own(half: Callable) -> None:
    both = spatialdata.concatenate({"a": half(250), "b": half(210)}, concatenate_tables=True)
    sd.pp.tissue_share(both, crop_px=40, image_key={"cells-a": "he-a", "cells-b": "he-b"})
    np.testing.assert_allclose(both["table"].obs["he_tissue_share"], [1, 0.75, 0.5, 0, np.nan] * 2)
    record = both["table"].uns["stdistill"]["tissue_share"]
    assert record["white_points"].tolist() == [[250] * 3, [210] * 3]
    assert record["image_key"] == "he-a, he-b"


def test_a_copy_leaves_the_slide(half: Callable) -> None:
    slide = half(250)
    written = sd.pp.tissue_share(slide, crop_px=40, copy=True)
    assert written is not None
    assert "he_tissue_share" in written["table"].obs
    assert "he_tissue_share" not in slide["table"].obs


def test_an_image_without_a_small_level_has_a_white_point(half: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from stdistill._slide import glass

    monkeypatch.setattr(glass, "OVERVIEW_PX", 50)
    slide = half(210)
    sd.pp.tissue_share(slide, crop_px=40)
    assert slide["table"].uns["stdistill"]["tissue_share"]["white_points"].tolist() == [[210] * 3]


def test_what_cannot_be_measured(half: Callable) -> None:
    slide = half(250)
    with pytest.raises(ValueError, match="rgb_threshold must be below 255, found 255"):
        sd.pp.tissue_share(slide, rgb_threshold=255)
    with pytest.raises(ValueError, match="rgb_threshold must be positive"):
        sd.pp.tissue_share(slide, rgb_threshold=-1)
    with pytest.raises(KeyError, match=r"use_rep='X_uni' is not features in \.obsm"):
        sd.pp.tissue_share(slide, use_rep="X_uni")
    with pytest.raises(KeyError, match="image_key='hires'"):
        sd.pp.tissue_share(slide, image_key="hires")
    with pytest.raises(TypeError, match="An AnnData holds no image"):
        sd.pp.tissue_share(slide["table"])
