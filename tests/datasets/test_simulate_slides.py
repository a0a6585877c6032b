"""Several slides of one tissue: other sections, stains, scanners and scales."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import tifffile
from PIL import Image

import stdistill as sd

if TYPE_CHECKING:
    from tests.datasets.conftest import SimulatedSlide

UNCHANGED_COLORS = [
    [[198.4, 113.6, 166.5], [197.2, 104.3, 159.6], [201.4, 103.0, 158.3]],
    [[199.7, 97.1, 154.2], [189.3, 89.7, 148.2], [210.9, 134.2, 178.0]],
    [[209.9, 118.4, 169.1], [193.1, 113.1, 166.0], [232.7, 212.2, 224.9]],
]
"""Mean RGB of 3 × 3 squares of 100 pixels in the middle of `outs`, since sections are stained unevenly."""


@pytest.fixture(scope="module")
def slides(outs: SimulatedSlide, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SimulatedSlide]:
    """The section of `outs`, as it is and from other laboratories."""
    folder = tmp_path_factory.mktemp("slides")
    other: dict[str, dict[str, Any]] = {
        "own stain": {"stain_seed": 4},
        "stain": {"stain_seed": 13},
        "scanner": {"scanner_seed": 12},
        "both": {"stain_seed": 13, "scanner_seed": 12},
    }
    return {"usual": outs} | {
        name: type(outs)(sd.datasets.simulate_xenium(folder / name, n_cells=700, seed=4, **arguments))
        for name, arguments in other.items()
    }


def squares(he: np.ndarray) -> np.ndarray:
    """Mean RGB of 3 × 3 squares of 100 pixels in the middle."""
    row, column = he.shape[0] // 2 - 150, he.shape[1] // 2 - 150
    return he[row : row + 300, column : column + 300].reshape(3, 100, 3, 100, 3).mean(axis=(1, 3))


def glass(slide: SimulatedSlide) -> np.ndarray:
    """A corner of the H&E, where there is no tissue."""
    return slide.he[:60, :60]


def jpeg_tables(slide: SimulatedSlide) -> dict[int, list[int]]:
    """What the first tile was quantised by: the coarser, the lower the quality."""
    with tifffile.TiffFile(slide.he_path) as tiff:
        page = tiff.pages[0]
        tiff.filehandle.seek(page.dataoffsets[0])
        return Image.open(io.BytesIO(tiff.filehandle.read(page.databytecounts[0]))).quantization


def test_by_default_the_pixels_are_what_they_were(slides: dict[str, SimulatedSlide]) -> None:
    np.testing.assert_allclose(squares(slides["usual"].he), UNCHANGED_COLORS, atol=0.3)


def test_the_stain_of_the_seed_is_the_usual_one(slides: dict[str, SimulatedSlide]) -> None:
    np.testing.assert_array_equal(slides["own stain"].he, slides["usual"].he)


@pytest.mark.parametrize("name", ["stain", "scanner", "both"])
def test_other_laboratories_change_nothing_but_the_he(slides: dict[str, SimulatedSlide], name: str) -> None:
    usual, other = slides["usual"], slides[name]
    pd.testing.assert_frame_equal(other.truth, usual.truth)
    for table in ("cells", "cell_boundaries", "nucleus_boundaries", "transcripts"):
        first, second = (pd.read_parquet(slide.path / f"{table}.parquet") for slide in (usual, other))
        pd.testing.assert_frame_equal(first, second)
    for labels in ("cell_labels", "nucleus_labels"):
        first, second = (slide.sdata[labels]["scale0"].image.to_numpy() for slide in (usual, other))
        np.testing.assert_array_equal(first, second)
    assert (other.sdata["table"].X != usual.sdata["table"].X).nnz == 0
    for file in ("simulated_he_imagealignment.csv", "simulated_cell_groups.csv", "simulated_pathology.geojson"):
        assert (other.path / file).read_bytes() == (usual.path / file).read_bytes()
    dapi = "morphology_focus/morphology_focus_0000.ome.tif"
    np.testing.assert_array_equal(tifffile.imread(other.path / dapi), tifffile.imread(usual.path / dapi))
    assert other.he.shape == usual.he.shape


@pytest.mark.parametrize("name", ["stain", "scanner", "both"])
def test_other_laboratories_show_the_same_tissue_in_other_colours(slides: dict[str, SimulatedSlide], name: str) -> None:
    usual, other = slides["usual"].he, slides[name].he
    assert np.abs(squares(usual) - squares(other)).max() > 10
    for channel in range(3):
        assert np.corrcoef(usual[..., channel].ravel(), other[..., channel].ravel())[0, 1] > 0.9


def test_another_stain_leaves_the_glass(slides: dict[str, SimulatedSlide]) -> None:
    np.testing.assert_array_equal(glass(slides["stain"]), glass(slides["usual"]))
    assert jpeg_tables(slides["stain"]) == jpeg_tables(slides["usual"])


def test_another_scanner_has_another_white_and_another_jpeg(slides: dict[str, SimulatedSlide]) -> None:
    usual, scanned = (glass(slides[name]).mean(axis=(0, 1)) for name in ("usual", "scanner"))
    assert np.abs(usual - scanned).min() > 1
    assert glass(slides["scanner"]).max() < 255
    assert jpeg_tables(slides["scanner"]) != jpeg_tables(slides["usual"])


def test_stain_and_scanner_are_chosen_apart(slides: dict[str, SimulatedSlide]) -> None:
    np.testing.assert_array_equal(glass(slides["both"]), glass(slides["scanner"]))
    assert np.abs(squares(slides["both"].he) - squares(slides["scanner"].he)).max() > 10


def test_another_scale_shows_the_same_tissue(outs: SimulatedSlide, simulate: Callable[..., SimulatedSlide]) -> None:
    coarse = simulate(n_cells=700, seed=4, he_mpp=0.548)
    pd.testing.assert_frame_equal(coarse.truth, outs.truth)
    np.testing.assert_array_equal(coarse.centroids, outs.centroids)
    np.testing.assert_allclose(coarse.to_he(outs.centroids), outs.to_he(outs.centroids) / 2, atol=0.5)
    np.testing.assert_allclose(np.array(coarse.he.shape[:2]), np.array(outs.he.shape[:2]) / 2, atol=1)


def test_another_number_of_cells_is_another_section_of_the_same_tissue(
    outs: SimulatedSlide, other_tissue: SimulatedSlide, simulate: Callable[..., SimulatedSlide]
) -> None:
    section = simulate(n_cells=800, seed=4)
    # The same tissue: types, niches, panel, and what types express; stain, light and orientation of the H&E.
    for column in ("cell_type", "niche"):
        shares = [slide.truth[column].value_counts(normalize=True) for slide in (outs, section)]
        for first, second in (shares, shares[::-1]):
            assert set(first.index[first > 0.03]) <= set(second.index)
    means = []
    for slide in (outs, section, other_tissue):
        counts = sc.read_10x_h5(slide.path / "cell_feature_matrix.h5").to_df()
        means.append(np.log1p(counts[slide.truth["cell_type"].to_numpy() == "Fibroblast"].mean()))
    assert means[0].index.tolist() == means[1].index.tolist()
    shared = means[0].index.intersection(means[2].index)
    assert means[0].corr(means[1]) > 0.95
    assert means[0][shared].corr(means[2][shared]) < 0.85
    np.testing.assert_array_equal(glass(section).mean(axis=(0, 1)).round(), glass(outs).mean(axis=(0, 1)).round())
    np.testing.assert_allclose(section.alignment[:2, :2], outs.alignment[:2, :2])
    # Another section: at the same place relative to the slide, the niche is another as often as by chance.
    places = [slide.centroids / slide.centroids.max(axis=0) for slide in (outs, section)]
    nearest = np.hypot(*(places[0][:, None] - places[1][None]).transpose(2, 0, 1)).argmin(axis=1)
    niche = [slide.truth["niche"].to_numpy() for slide in (outs, section)]
    agreement = np.mean(niche[0] == niche[1][nearest])
    by_chance = sum(np.mean(niche[0] == name) * np.mean(niche[1] == name) for name in set(niche[0]))
    assert agreement < by_chance + 0.2
