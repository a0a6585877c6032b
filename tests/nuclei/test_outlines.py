from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import find_contours, label

from stdistill._nuclei.outlines import TOLERANCE_PX, trace_outlines


def random_labels(seed: int, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return label(np.digitize(noise, np.quantile(noise, (0.5, 0.7, 0.85))), connectivity=1).astype(np.int32)


def fill(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_fill_holes(mask, structure=np.ones((3, 3)))  # what is open at a corner is no hole


def test_a_square_keeps_its_place_and_loses_its_corners() -> None:
    labels = np.zeros((6, 8), dtype=np.int32)
    labels[1:4, 2:6] = 1
    (polygon,) = trace_outlines(labels)
    assert polygon.bounds == (2, 1, 6, 4)
    assert polygon.area == 12 - 4 * 0.125


def test_one_pixel() -> None:
    (polygon,) = trace_outlines(np.array([[0, 1]], dtype=np.int32))
    assert polygon.equals(shapely.Polygon([(1.5, 0), (2, 0.5), (1.5, 1), (1, 0.5)]))


def test_no_labels() -> None:
    assert trace_outlines(np.zeros((4, 4), dtype=np.int32)).shape == (0,)


def test_labels_may_touch_each_other_and_the_edge() -> None:
    labels = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 2]], dtype=np.int32)
    areas = shapely.area(trace_outlines(labels))
    np.testing.assert_allclose(areas, np.array([4, 3, 2]) - 0.5)


def test_parts_that_touch_by_a_corner_are_two() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 2]], dtype=np.int32)
    first, second = trace_outlines(labels)
    assert not first.overlaps(second)
    assert second.bounds == (2, 2, 3, 3)


def test_holes_are_filled() -> None:
    labels = np.ones((5, 5), dtype=np.int32)
    labels[2, 2] = 0
    assert trace_outlines(labels)[0].area == 25 - 0.5


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_outlines_are_valid_and_enclose_their_pixels(seed: int) -> None:
    labels = random_labels(seed)
    polygons = trace_outlines(labels)
    assert shapely.is_valid(polygons).all()
    filled = np.array([fill(labels == i).sum() for i in range(1, labels.max() + 1)])
    assert np.all(np.abs(shapely.area(polygons) - filled) < 0.5 + TOLERANCE_PX * shapely.length(polygons))


def test_outlines_are_those_of_marching_squares() -> None:
    labels = random_labels(1)
    for number, polygon in enumerate(trace_outlines(labels), 1):
        mask = fill(np.pad(labels == number, 1)).astype(float)
        rows, columns = max(find_contours(mask, 0.5, fully_connected="low"), key=len).T
        other = shapely.Polygon(np.stack([columns, rows], axis=1) - 0.5)
        assert polygon.symmetric_difference(other).area < TOLERANCE_PX * other.length
