from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import shapely
from skimage.color import hed_from_rgb

from stdistill._features.nuclei import estimate_level_mpp, find_on_level, hash_level, measure_haematoxylin
from stdistill._nuclei.methods import load_method
from stdistill._slide.pyramid import SlideLevel

GLASS = np.array([240, 240, 240], dtype=np.uint8)


def level_of(pixels: np.ndarray, chunk: int = 100) -> SlideLevel:
    return SlideLevel(da.from_array(np.moveaxis(pixels, -1, 0), chunks=(3, chunk, chunk)), np.ones(2))


@pytest.fixture
def dots() -> np.ndarray:
    """Dark discs of 14 px on pink, in a grid of 40 px."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320] + 0.5
    far = np.hypot((y % 40) - 20, (x % 40) - 20)
    amount = 1.1 / (1 + np.exp(2 * (far - 7))) * np.exp(0.1 * rng.normal(size=far.shape))
    density = amount[..., None] * (0.65, 0.70, 0.29) + 0.25 * np.array([0.07, 0.99, 0.11])
    return np.clip(245 * np.exp(-density), 0, 255).astype(np.uint8)


def test_each_nucleus_once_in_chunks_of_any_size(dots: np.ndarray) -> None:
    places = []
    for chunk in (50, 173, 1000):
        nuclei = find_on_level(
            level_of(dots, chunk), 0.5, load_method("tree"), background=GLASS, tissue=np.ones((6, 8), dtype=bool)
        )
        assert len(nuclei) == 6 * 8
        places.append(nuclei.centroids)
        np.testing.assert_array_equal(places[0], places[-1])
    np.testing.assert_allclose(np.sort(places[0][:, 0] % 40), 20, atol=1)


def test_what_is_no_tissue_is_not_looked_at(dots: np.ndarray) -> None:
    def find(density: Any) -> Any:
        raise AssertionError("looked")

    nuclei = find_on_level(level_of(dots), 0.5, find, background=GLASS, tissue=np.zeros((6, 8), dtype=bool))
    assert len(nuclei) == 0


def test_the_size_of_nuclei_says_how_large_pixels_are(dots: np.ndarray) -> None:
    mpp = estimate_level_mpp(level_of(dots), load_method("tree"), background=GLASS, tissue=np.ones((6, 8), dtype=bool))
    assert mpp == pytest.approx(6 / 14, rel=0.15)


def test_images_are_told_apart(dots: np.ndarray) -> None:
    assert hash_level(level_of(dots)) == hash_level(level_of(dots.copy()))
    other = dots.copy()
    other[5, 5] = 0
    assert hash_level(level_of(other)) != hash_level(level_of(dots))


def test_haematoxylin_within_outlines() -> None:
    """Two plain halves of known density, an outline across both, one off the image, one on an edge of a window."""
    pixels = np.full((300, 2100, 3), 255, np.uint8)
    pixels[:, 50:] = np.rint(255 * np.exp(-0.8 * np.array([0.65, 0.70, 0.29])))
    outlines = np.array(
        [
            shapely.box(10, 10, 40, 40),
            shapely.box(60, 10, 90, 40),
            shapely.box(40, 100, 60, 120),
            shapely.box(1020, 10, 1028, 30),
            shapely.box(-500, 10, -400, 20),
            shapely.Point(70, 200).buffer(5),
        ],
        dtype=object,
    )
    found = measure_haematoxylin(level_of(pixels, 512), outlines, background=GLASS)
    full = -np.log(pixels[0, 60] / 255) @ hed_from_rgb[:, 0]
    np.testing.assert_allclose(found, [0, full, full / 2, full, np.nan, full], atol=1e-3)
