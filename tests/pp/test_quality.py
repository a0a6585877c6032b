from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spatialdata
from scipy.ndimage import gaussian_filter
from spatialdata import SpatialData

import stdistill as sd

COLUMNS = ["he_focus", "he_overexposed", "he_blockiness", "he_fold", "he_pen"]


@pytest.fixture(scope="module")
def slide(bundle: Path) -> SpatialData:
    return sd.pp.read_xenium(bundle)


def changed(slide: SpatialData, change: Callable[[Any], Any]) -> SpatialData:
    """The slide with other pixels, in one level."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import get_transformation

    pixels = change(slide["he"]["scale0"]["image"].to_numpy().astype(float))
    image = Image2DModel.parse(
        np.clip(np.rint(pixels), 0, 255).astype(np.uint8),
        dims=("c", "y", "x"),
        transformations=get_transformation(slide["he"], get_all=True),
    )
    table = slide["table"].copy()
    return SpatialData.init_from_elements({"he": image, "cell_circles": slide["cell_circles"], "table": table})


def record(slide: SpatialData, **options: Any) -> dict[str, Any]:
    sd.pp.quality(slide, **options)
    found = slide.attrs["stdistill"]["quality"]
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def good(slide: SpatialData) -> dict[str, Any]:
    return record(changed(slide, lambda pixels: pixels))


def test_a_good_slide(good: dict[str, Any]) -> None:
    assert good["n_fields"] > 10
    assert good["focus"] > 0.5
    assert good["unfocused_share"] < 0.05
    assert good["fold_share"] < 0.05
    assert good["pen_share"] == 0
    assert good["overexposed_share"] < 0.001
    assert 1 <= good["blockiness"] < 1.3
    assert good["stain_distance"] < 30  # the simulator varies the stain of Ruifrok and Johnston
    assert np.shape(good["stain_vectors"]) == (2, 3)


def test_a_blurred_slide_against_a_sharp_one(slide: SpatialData, good: dict[str, Any]) -> None:
    blurred = changed(slide, lambda pixels: gaussian_filter(pixels, (0, 6, 6)))
    alone = record(blurred)
    assert alone["focus"] < good["focus"] - 0.2
    assert alone["unfocused_share"] < 0.1  # in comparison with itself
    assert record(blurred, references=[good])["unfocused_share"] > 0.9


def test_slides_of_another_scale_are_not_compared(slide: SpatialData, good: dict[str, Any]) -> None:
    """The same sharpness is another number where pixels are larger."""
    plain = changed(slide, lambda pixels: pixels)
    for factor in (0.5, 1.2, 2.0):
        other = {**good, "mpp": good["mpp"] * factor}
        with pytest.raises(ValueError, match=r"references\[1\] was measured at .* µm per pixel, this slide at"):
            sd.pp.quality(plain, references=[good, other])
    assert "stdistill" not in plain.attrs
    record(plain, references=[{**good, "mpp": good["mpp"] * 1.05}])


def test_a_blurred_half(slide: SpatialData) -> None:
    def blur(pixels: Any) -> Any:
        half = pixels.shape[2] // 2
        pixels[:, :, :half] = gaussian_filter(pixels, (0, 5, 5))[:, :, :half]
        return pixels

    other = changed(slide, blur)
    record(other)
    left = sd.get.he_pixels(other)["x"] < other["he"].sizes["x"] / 2
    focus = other["table"].obs["he_focus"]
    assert focus[left].median() < focus[~left].median() - 0.15


def test_pen(slide: SpatialData) -> None:
    def draw(pixels: Any) -> Any:
        pixels[:, 200:900, 500:1200] = np.array([20, 120, 60])[:, None, None]  # 0.19 mm wide
        return pixels

    other = changed(slide, draw)
    found = record(other)
    assert found["pen_share"] > 0.01
    places = sd.get.he_pixels(other)
    under = places["x"].between(560, 1140) & places["y"].between(260, 840)
    pen = other["table"].obs["he_pen"]
    assert (pen[under] > 0.8).all()
    assert (pen[~places["x"].between(300, 1400)] == 0).all()


def test_too_much_light(slide: SpatialData, good: dict[str, Any]) -> None:
    assert record(changed(slide, lambda pixels: pixels * 1.25))["overexposed_share"] > 0.05


def test_another_stain(slide: SpatialData, good: dict[str, Any]) -> None:
    def shift(pixels: Any) -> Any:
        return 245 * (pixels.clip(1, 245) / 245) ** np.array([1.5, 1.0, 0.6])[:, None, None]

    other = changed(slide, shift)
    assert record(other, references=[good])["stain_distance"] > 8
    same = record(changed(slide, lambda pixels: pixels), references=[good])
    assert same["stain_distance"] == pytest.approx(0, abs=0.1)


def test_red_and_blue_in_the_place_of_each_other(slide: SpatialData) -> None:
    """As OpenCV reads files."""
    with pytest.warns(UserWarning, match=r"Red and blue of the image 'he' .* OpenCV .* pixels\[..., ::-1\]"):
        sd.pp.quality(changed(slide, lambda pixels: pixels[::-1]))


def test_columns(slide: SpatialData) -> None:
    sd.pp.quality(slide)
    obs = slide["table"].obs[COLUMNS]
    assert (obs.dtypes == np.float32).all()
    on_image = sd.get.he_pixels(slide)["on_image"]
    assert obs[on_image].notna().all(axis=None)
    assert obs[~on_image].isna().all(axis=None)


def test_without_cells(slide: SpatialData, tmp_path: Path) -> None:
    alone = sd.pp.read_slide(slide["table"].uns["stdistill"]["slide"]["path"])
    copy = sd.pp.quality(alone, copy=True)
    assert copy is not None
    assert "quality" in copy.attrs["stdistill"]
    assert "quality" not in alone.attrs["stdistill"]
    assert not copy.tables


def test_a_copy_has_a_table_of_its_own(slide: SpatialData) -> None:
    plain = changed(slide, lambda pixels: pixels)
    plain["table"].obs = plain["table"].obs.drop(columns=COLUMNS, errors="ignore")
    copy = sd.pp.quality(plain, copy=True)
    assert copy is not None
    assert set(COLUMNS) <= set(copy["table"].obs)
    assert not set(COLUMNS) & set(plain["table"].obs)
    assert "stdistill" not in plain.attrs


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:zarr v3 autosharding")
def test_a_record_from_disk_is_a_reference(slide: SpatialData, good: dict[str, Any], tmp_path: Path) -> None:
    SpatialData(attrs={"stdistill": {"quality": good}}).write(tmp_path / "good.zarr")
    read = spatialdata.read_zarr(tmp_path / "good.zarr").attrs["stdistill"]["quality"]
    assert read == good
    assert record(changed(slide, lambda pixels: pixels), references=[read])["stain_distance"] < 0.1


def test_blank_and_no_slide(slide: SpatialData, make_cells: Callable) -> None:
    blank = changed(slide, lambda pixels: np.full_like(pixels, 240))
    with pytest.raises(ValueError, match="No tissue is seen on the image 'he'"):
        sd.pp.quality(blank)
    assert not blank.attrs
    with pytest.raises(TypeError, match="An AnnData holds no image"):
        sd.pp.quality(make_cells(5))  # type: ignore[arg-type]


def test_references_that_are_no_records(slide: SpatialData) -> None:
    good, before = {"mpp": 0.5, "focus_limit": 0.4}, slide.attrs.get("stdistill", {}).get("quality")
    with pytest.raises(TypeError, match=r"references is a dict; expected a list of what sd\.pp\.quality recorded"):
        sd.pp.quality(slide, references=good)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"references\[1\] is a SpatialData; expected a list"):
        sd.pp.quality(slide, references=[good, slide])  # type: ignore[list-item]
    with pytest.raises(KeyError, match=r"references\[0\] lacks .*focus_limit.* It has .*mpp"):
        sd.pp.quality(slide, references=[{"mpp": 0.5}])
    assert slide.attrs.get("stdistill", {}).get("quality") is before
