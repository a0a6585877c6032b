"""H&E and DAPI as written: their format, and that they lie where the alignment says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from stdistill.datasets._simulation.painting.frames import draw_alignment

if TYPE_CHECKING:
    from tests.datasets.conftest import SimulatedSlide

PIXEL_SIZE_UM = 0.2125
VERSIONS = ("1.0.2", "1.7.6", "2.0.0", "3.0.0", "4.0.0")


def test_he_is_a_pyramid_of_jpeg_tiles(outs: SimulatedSlide) -> None:
    with tifffile.TiffFile(outs.he_path) as tiff:
        (series,) = tiff.series
        levels = series.levels
        assert tiff.is_ome
        assert len(tiff.pages) == 1
        assert len(tiff.pages[0].subifds) == len(levels) - 1 >= 1
        for level in levels:
            page = level.pages[0]
            assert (page.tilewidth, page.tilelength) == (512, 512)
            assert page.compression == tifffile.COMPRESSION.JPEG
            assert level.shape[2] == 3
            assert level.dtype == np.uint8
        for larger, smaller in itertools.pairwise(levels):
            assert smaller.shape[:2] == (larger.shape[0] // 2, larger.shape[1] // 2)
        assert max(levels[-1].shape[:2]) <= 512


def test_levels_show_the_same_picture(outs: SimulatedSlide) -> None:
    with tifffile.TiffFile(outs.he_path) as tiff:
        large, small = (tiff.series[0].levels[level].asarray().astype(float) for level in (0, 1))
    rows, columns = small.shape[:2]
    halved = large[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small).mean() < 4


@pytest.mark.parametrize("he_mpp", [0.274, 0.5])
def test_scale_is_that_of_the_alignment(
    outs: SimulatedSlide, simulate: Callable[..., SimulatedSlide], he_mpp: float
) -> None:
    slide = outs if he_mpp == 0.274 else simulate(n_cells=150, he_mpp=he_mpp)
    with tifffile.TiffFile(slide.he_path) as tiff:
        image = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert image["PhysicalSizeXUnit"] == image["PhysicalSizeYUnit"] == "µm"
    determinant = np.linalg.det(slide.alignment[:2, :2])
    assert determinant > 0
    for size in (image["PhysicalSizeX"], image["PhysicalSizeY"], np.sqrt(determinant) * PIXEL_SIZE_UM):
        assert float(size) == pytest.approx(he_mpp, rel=1e-6)


def test_alignment_is_a_quarter_turn_without_shear(outs: SimulatedSlide, other_tissue: SimulatedSlide) -> None:
    for slide in (outs, other_tissue):
        (a, b), (c, d) = slide.alignment[:2, :2]
        assert a == pytest.approx(d)
        assert b == pytest.approx(-c)
        assert abs(abs(np.degrees(np.arctan2(c, a))) - 90) <= 3
        np.testing.assert_array_equal(slide.alignment[2], [0, 0, 1])


def test_he_turns_to_either_side() -> None:
    turns = [draw_alignment(np.random.default_rng(seed), 900, 700, 0.274).matrix[1, 0] for seed in range(20)]
    assert min(turns) < 0 < max(turns)


def test_all_cells_lie_on_the_image(outs: SimulatedSlide, other_tissue: SimulatedSlide) -> None:
    for slide in (outs, other_tissue):
        rows, columns = slide.he.shape[:2]
        x, y = slide.to_he(slide.centroids).T
        assert ((x > 0) & (x < columns) & (y > 0) & (y < rows)).all()


def test_nuclei_lie_where_the_alignment_says(bundles: dict[str, SimulatedSlide], other_tissue: SimulatedSlide) -> None:
    for slide in (bundles["1.7.6"], bundles["3.0.0"], other_tissue):
        # Haematoxylin absorbs red light, eosin hardly does.
        red = slide.he[..., 0].astype(float)
        with zarr.storage.ZipStore(slide.path / "cells.zarr.zip", read_only=True) as store:
            summary = zarr.open(store, mode="r")["cell_summary"]
            frame = pd.DataFrame(summary[:], columns=summary.attrs["column_names"])
        um = frame[["nucleus_centroid_x", "nucleus_centroid_y"]].dropna().to_numpy()
        if "nucleus_count" in frame:
            um = frame.loc[frame["nucleus_count"] == 1, ["nucleus_centroid_x", "nucleus_centroid_y"]].to_numpy()
        x, y = slide.to_he(um).astype(int).T
        at_nuclei = red[y, x].mean()
        shifted = [
            red[np.clip(y + dy, 0, len(red) - 1), np.clip(x + dx, 0, red.shape[1] - 1)].mean()
            for dx, dy in ((45, 0), (-45, 0), (0, 45), (0, -45))
        ]
        assert at_nuclei < min(shifted) - 40


def test_a_shift_of_few_pixels_would_be_seen(outs: SimulatedSlide) -> None:
    """The nuclei of the label image and those of the H&E overlap best without a shift."""
    sdata = outs.sdata
    labels = sdata["nucleus_labels"]["scale0"].image.to_numpy() > 0
    image = outs.he[..., 0].astype(float)
    rows, columns = image.shape
    y, x = np.mgrid[0:rows:3, 0:columns:3]
    matrix = outs.alignment

    def darkness(dx: int, dy: int) -> float:
        px = matrix[:2] @ np.stack([x.ravel() + 0.5 + dx, y.ravel() + 0.5 + dy, np.ones(x.size)])
        column, row = np.floor(px).astype(int)
        valid = (column >= 0) & (row >= 0) & (column < labels.shape[1]) & (row < labels.shape[0])
        nucleus = np.zeros(x.size, bool)
        nucleus[valid] = labels[row[valid], column[valid]]
        return float(-image[y.ravel()[nucleus], x.ravel()[nucleus]].mean())

    here = darkness(0, 0)
    for dx, dy in ((4, 0), (-4, 0), (0, 4), (0, -4)):
        assert here > darkness(dx, dy) + 1


def test_slide_is_white_around_pink_tissue(outs: SimulatedSlide) -> None:
    image = outs.he
    for corner in (image[:20, :20], image[-20:, -20:], image[:20, -20:], image[-20:, :20]):
        assert corner.mean() > 225
    x, y = outs.to_he(outs.centroids).astype(int).T
    window = image[y.min() : y.max(), x.min() : x.max()].reshape(-1, 3).astype(float)
    tissue = window[window.mean(axis=1) < 215].mean(axis=0)
    assert tissue[1] < tissue[2]
    assert tissue[1] < tissue[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_dapi_glows_in_the_nuclei(bundles: dict[str, SimulatedSlide], version: str) -> None:
    sdata = bundles[version].sdata
    image = sdata["morphology_focus"]["scale0"].image.to_numpy()[0]
    labels = sdata["nucleus_labels"]["scale0"].image.to_numpy()
    assert image.dtype == np.uint16
    assert image.shape == labels.shape
    assert image[labels > 0].mean() > 5 * image[labels == 0].mean()


def test_dapi_is_compressed_and_pyramidal(outs: SimulatedSlide) -> None:
    with tifffile.TiffFile(outs.path / "morphology_focus" / "morphology_focus_0000.ome.tif") as tiff:
        page = tiff.pages[0]
        assert page.compression != tifffile.COMPRESSION.NONE
        assert page.is_tiled
        assert len(tiff.series[0].levels) > 1
        assert "PhysicalSizeX" in tiff.ome_metadata
