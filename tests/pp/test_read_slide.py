from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spatialdata
import tifffile
from spatialdata.transformations import get_transformation

import stdistill as sd


def write(path: Path, *, side: int = 600, mpp: float | None = 0.5) -> Path:
    """Write glass with a piece of tissue at known places."""
    pixels = np.full((side, side, 3), 236, np.uint8)
    pixels[100:300, 200:500] = (190, 110, 160)
    options: dict[str, Any] = {} if mpp is None else {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", metadata=None, compression="deflate", **options)
    return path


def test_what_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.tif")
    slide = sd.pp.read_slide(path)
    assert {name for _, name, _ in slide.gen_elements()} == {"he"}
    assert set(get_transformation(slide["he"], get_all=True)) == {"global", "um"}
    record = slide.attrs["stdistill"]["slide"]
    assert record.pop("digest")
    assert record.pop("stdistill_version")
    assert record == {
        "source": "tiff",
        "image_key": "he",
        "mpp": pytest.approx(0.5),
        "mpp_source": "resolution tags",
        "um_to_px": [[2, 0, 0], [0, 2, 0], [0, 0, 1]],
        "shape": [600, 600],
        "path": str(path),
    }


def test_nothing_is_decoded_for_it_but_some_tiles(tmp_path: Path) -> None:
    slide = sd.pp.read_slide(write(tmp_path / "slide.tif"))
    pixels = slide["he"]["scale0"]["image"]
    assert pixels.chunks is not None
    assert pixels[:, 150, 250].to_numpy().tolist() == [190, 110, 160]
    # In µm: the tissue begins at 100, 50.
    to_um = get_transformation(slide["he"], "um").to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(to_um @ (200, 100, 1), (100, 50, 1), rtol=1e-6)


def test_mpp_is_given(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.tif", mpp=None)
    with pytest.raises(ValueError, match=r"^slide\.tif does not state its µm per pixel\. Give it with mpp="):
        sd.pp.read_slide(path)
    record = sd.pp.read_slide(path, mpp=0.25).attrs["stdistill"]["slide"]
    assert (record["mpp"], record["mpp_source"]) == (0.25, "mpp=")


def test_a_relative_path_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "slide.tif")
    monkeypatch.chdir(tmp_path)
    assert sd.pp.read_slide("slide.tif").attrs["stdistill"]["slide"]["path"] == str(tmp_path / "slide.tif")


@pytest.mark.parametrize("image_key", ["", "a/b", 3, None])
def test_what_is_no_name(tmp_path: Path, image_key: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="image_key"):
        sd.pp.read_slide(write(tmp_path / "slide.tif"), image_key=image_key)


def test_what_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stdistill"):
        sd.pp.read_slide(write(tmp_path / "slide.tif"))
    assert caplog.messages == ["Read slide.tif: 600 × 600 px at 0.5000 µm per pixel (resolution tags)."]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:zarr v3 autosharding")
def test_a_copy_on_disk_has_the_same_pixels(tmp_path: Path) -> None:
    slide = sd.pp.read_slide(write(tmp_path / "slide.tif", side=2600))
    slide.write(tmp_path / "copy.zarr")
    copy = spatialdata.read_zarr(tmp_path / "copy.zarr")
    assert list(copy["he"]) == list(slide["he"]) == ["scale0", "scale1"]
    for scale in slide["he"]:
        np.testing.assert_array_equal(copy["he"][scale]["image"], slide["he"][scale]["image"])
    assert copy.attrs["stdistill"] == slide.attrs["stdistill"]
