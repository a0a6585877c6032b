"""Small files that reproduce what users reported of other readers: what is right for each of them."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import stdistill as sd

GLASS = 236
"""Grey of the glass of these files; their mean, since they show little else, is near it."""


@dataclass(frozen=True)
class Expected:
    """What is right for a file."""

    shape: tuple[int, int] = (0, 0)
    """Height and width."""
    n_levels: int = 1
    mpp: float | None = None
    """As the file states it, `None` where it is to be given."""
    means: tuple[float, ...] = ()
    """Of the levels, to 1 grey level."""
    error: str | None = None
    """What is said without mpp= (where there is a shape) or in any case."""
    warning: str | None = None
    scene: int | None = None


NO_MPP = "does not state its µm per pixel. Give it with mpp="
ORIENTED = "has the orientation tag 6"
FILES = {
    "01_svs_comma.svs": Expected((1024, 1024), 2, 0.5, (235.8, 235.7)),
    "02_svs_nonascii.svs": Expected((1024, 1024), 2, 0.5, (235.8, 235.7)),
    "03_motic.svs": Expected((1024, 1024), 3, 0.25729, (235.8, 235.7, 235.7)),
    "04_no_subfiletype_1cm.tif": Expected((1024, 1024), 3, None, (236.0, 235.9, 235.9), "states 10000 µm per pixel"),
    "05_subifds.ome.tif": Expected((3072, 3072), 2, 0.2738, (218.5, 218.4)),
    "06_mpp_tenth.tif": Expected((1024, 1024), 3, None, (235.8, 235.7, 235.7), "Ten times as much, 0.2738,"),
    "07_zero_byte_tiles.svs": Expected((1024, 1024), 2, 0.25, (235.8, 235.7)),
    "08_sparse.tif": Expected((1024, 1024), 1, None, (235.8,), NO_MPP),
    "10_edge_deflate.tif": Expected((700, 900), 1, 0.5, (242.9,)),
    "11_jp2k_33003.svs": Expected((512, 512), 1, 0.5, (243.2,)),
    "11b_jp2k_33005.svs": Expected((512, 512), 1, 0.5, (244.2,)),
    "12_small.ndpi": Expected((1024, 2048), 3, 0.2274, (219.8, 219.7, 219.4)),
    "12b_nomacro_20x.ndpi": Expected((512, 1024), 2, 0.4566, (235.8, 235.7)),
    "13_no_mpp_mag_only.svs": Expected((1024, 1024), 2, None, (235.8, 235.7), NO_MPP),
    "13b_mag_float.svs": Expected((1024, 1024), 2, 0.25, (235.8, 235.7)),
    "14_aniso_small.tif": Expected((512, 512), 1, 0.24259, (243.5,)),
    "14b_aniso_2x.tif": Expected((512, 512), 1, None, (243.5,), "0.2500 µm per pixel along x and 0.5000 along y"),
    "15_72dpi.tif": Expected((512, 512), 1, None, (243.5,), "It is 72 dpi"),
    "16_no_unit.tif": Expected((512, 512), 1, None, (243.5,), NO_MPP),
    "17_orientation6.tif": Expected((512, 768), 1, 0.5, (243.8,), warning=ORIENTED),
    "18_truncated.svs": Expected(error="is truncated: it has 99357 bytes and should have at least 109038"),
    "19_two_scenes.ome.tif": Expected(error=r"holds 2 scenes \(0: 'Image0', 512 × 512 px; 1: 'Image1', 768 × 512 px\)"),
    "21_planar_separate.ome.tif": Expected((512, 512), 1, 0.25, (243.7,)),
    "22_fluor_u16.ome.tif": Expected(error="pixels of type uint16; .* Is it a fluorescence image"),
    "23_odd_levels.svs": Expected((1023, 1021), 3, 0.25, (235.9, 236.0, 236.0)),
    "24_plain.jpg": Expected((512, 512), 1, None, (243.5,), NO_MPP),
    "24b_exif6.jpg": Expected((768, 512), 1, None, (243.7,), NO_MPP, warning=ORIENTED),
    "30_small.mrxs": Expected((1024, 1024), 3, 0.25, (240.7, 235.7, 235.7)),
}


def test_all_files_are_expected(shared_data: Path) -> None:
    found = {path.name for path in (shared_data / "slides_odd").iterdir() if path.is_file()}
    assert found - {"SOURCE.txt"} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_what_is_right(shared_data: Path, name: str) -> None:
    path, expected = shared_data / "slides_odd" / name, FILES[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        if expected.error is not None:
            with pytest.raises(ValueError, match=expected.error) as raised:
                sd.pp.read_slide(path)
            assert str(raised.value).startswith(name)
        if expected.shape == (0, 0):
            return
        caught.clear()
        slide = sd.pp.read_slide(path, mpp=None if expected.mpp else 0.5)
    said = [str(one.message) for one in caught]
    assert len(said) == (expected.warning is not None)
    assert expected.warning is None or re.search(expected.warning, said[0])
    record = slide.attrs["stdistill"]["slide"]
    assert record["mpp"] == pytest.approx(expected.mpp or 0.5, rel=1e-5)
    assert tuple(record["shape"]) == expected.shape
    levels = [slide["he"][scale]["image"] for scale in slide["he"]]
    assert len(levels) == expected.n_levels
    assert levels[0].shape == (3, *expected.shape)
    for level, mean in zip(levels, expected.means, strict=True):
        pixels = level.to_numpy()
        assert pixels.mean() == pytest.approx(mean, abs=1)
        # Nothing is black that is glass: gaps, missing tiles, what is beyond an edge.
        assert (pixels.max(axis=0) < 30).mean() < 0.01


def test_the_second_scene(shared_data: Path) -> None:
    path = shared_data / "slides_odd" / "19_two_scenes.ome.tif"
    for scene in (1, "Image1", np.int64(1)):
        slide = sd.pp.read_slide(path, scene=scene)
        assert slide["he"]["scale0"]["image"].shape == (3, 512, 768)
        assert slide.attrs["stdistill"]["slide"]["mpp"] == 0.5


def test_colours_of_jpeg_2000(shared_data: Path) -> None:
    """The same picture was written as YCbCr and as RGB."""
    one, other = (
        sd.pp.read_slide(shared_data / "slides_odd" / name)["he"]["scale0"]["image"].to_numpy().astype(int)
        for name in ("11_jp2k_33003.svs", "11b_jp2k_33005.svs")
    )
    # Not the same tissue, but the same glass and the same stain.
    for percentile in (1, 50):
        np.testing.assert_allclose(
            np.percentile(one, percentile, axis=(1, 2)), np.percentile(other, percentile, axis=(1, 2)), atol=8
        )


@pytest.mark.parametrize(
    "name",
    [
        "01_svs_comma.svs",
        "03_motic.svs",
        "04_no_subfiletype_1cm.tif",
        "10_edge_deflate.tif",
        "11_jp2k_33003.svs",
        "11b_jp2k_33005.svs",
        "12_small.ndpi",
        "21_planar_separate.ome.tif",
        "23_odd_levels.svs",
    ],
)
def test_pixels_are_those_of_openslide(shared_data: Path, name: str) -> None:
    openslide = pytest.importorskip("openslide")
    path = shared_data / "slides_odd" / name
    ours = sd.pp.read_slide(path, mpp=0.5 if FILES[name].mpp is None else None)["he"]["scale0"]["image"].to_numpy()
    with openslide.OpenSlide(path) as slide:
        theirs = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    difference = np.abs(ours.astype(int) - theirs.transpose(2, 0, 1))
    assert difference.max() <= (2 if "33003" in name else 0)  # YCbCr is rounded in another way


def test_gaps_have_the_background_that_the_slide_names(shared_data: Path) -> None:
    openslide = pytest.importorskip("openslide")
    path = shared_data / "slides_odd" / "30_small.mrxs"
    ours = sd.pp.read_slide(path)["he"]["scale0"]["image"].to_numpy()
    with openslide.OpenSlide(path) as slide:
        rgba = np.asarray(slide.read_region((0, 0), 0, slide.dimensions)).transpose(2, 0, 1)
    assert (rgba[3] == 0).any()
    assert (ours[:, rgba[3] == 0] == 255).all()
    np.testing.assert_array_equal(ours[:, rgba[3] == 255], rgba[:3, rgba[3] == 255])


def test_missing_tiles_of_a_level_show_what_the_finer_one_shows(shared_data: Path) -> None:
    slide = sd.pp.read_slide(shared_data / "slides_odd" / "07_zero_byte_tiles.svs")
    full, small = (slide["he"][scale]["image"].to_numpy().astype(float) for scale in ("scale0", "scale1"))
    shrunk = full.reshape(3, 512, 2, 512, 2).mean(axis=(2, 4))
    assert np.abs(shrunk - small)[:, :, 256:].mean() < 3  # this half was left out of the file
    assert np.abs(shrunk - small)[:, :, :256].mean() < 3


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sections_of_her2st(shared_data: Path) -> None:
    slide = sd.pp.read_slide(shared_data / "her2st" / "images" / "B4.jpg", mpp=0.67)
    assert slide["he"]["scale0"]["image"].shape == (3, 9923, 9272)
    assert max(slide["he"]["scale2"]["image"].shape) == 621
