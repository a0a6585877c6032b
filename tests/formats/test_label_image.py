from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import ndimage
from shapely import box

from stdistill._formats.label_image import outline_labels


def test_by_hand() -> None:
    labels = np.array([[0, 3, 3, 0], [0, 3, 0, 7], [7, 0, 0, 7], [0, 0, 0, 0]])
    labels[2, 0] = 0
    (three, seven), ids = outline_labels(labels, "test")
    assert ids.tolist() == [3, 7]
    assert three.equals(shapely.Polygon([(1, 0), (3, 0), (3, 1), (2, 1), (2, 2), (1, 2)]))
    assert len(three.exterior.coords) == 7  # corners only
    assert seven.equals(box(3, 1, 4, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint16, np.int64])
def test_areas_are_numbers_of_pixels(dtype: type) -> None:
    """Of blobs up to the border that touch each other."""
    rng = np.random.default_rng(0)
    seeds = np.zeros((300, 200), dtype=dtype)
    seeds[rng.integers(0, 300, 60), rng.integers(0, 200, 60)] = np.arange(1, 61)
    distance, (y, x) = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    labels = seeds[y, x] * (distance < 12)
    for each in np.unique(labels)[1:]:  # of each its largest piece
        pieces, _ = ndimage.label(labels == each)
        labels[(pieces > 0) & (pieces != 1 + np.bincount(pieces[pieces > 0])[1:].argmax())] = 0
    polygons, ids = outline_labels(labels, "test")
    assert ids.tolist() == sorted(set(labels.ravel()) - {0})
    assert shapely.is_valid(polygons).all()
    np.testing.assert_array_equal(shapely.area(polygons), np.bincount(labels.ravel().astype(int))[ids])
    centers = np.array(ndimage.center_of_mass(labels > 0, labels, ids))[:, ::-1] + 0.5
    np.testing.assert_allclose(shapely.get_coordinates(shapely.centroid(polygons)), centers, atol=1e-6)
    overlap = shapely.STRtree(polygons).query(polygons, predicate="overlaps")
    assert overlap.shape[1] == 0


def test_holes_are_filled() -> None:
    labels = np.ones((5, 5), dtype=int)
    labels[2, 2] = 0
    (polygon,), _ = outline_labels(labels, "test")
    assert polygon.equals(box(0, 0, 5, 5))


def test_of_several_pieces_the_largest_is_taken() -> None:
    labels = np.zeros((10, 10), dtype=int)
    labels[0, 1] = labels[1, 2] = 5  # two pixels that touch in a corner, the first from the top
    labels[4:8, 3:9] = 5
    labels[9, :3] = 6
    with pytest.warns(
        UserWarning, match="1 of 2 labels of the mask lie in several pieces: the largest of each is taken"
    ):
        (five, six), _ = outline_labels(labels, "the mask")
    assert five.equals(box(3, 4, 9, 8))
    assert six.equals(box(0, 9, 3, 10))


def test_a_label_that_touches_itself_in_a_corner() -> None:
    """A ring of pixels with a gap that is closed by a corner: one piece, and a valid polygon."""
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    (polygon,), _ = outline_labels(labels, "test")
    assert polygon.is_valid
    assert polygon.area == 7


def test_huge_numbers_and_none() -> None:
    labels = np.zeros((4, 4), dtype=np.uint32)
    labels[1, 1], labels[2, 2:] = 4_000_000_000, 7
    polygons, ids = outline_labels(labels, "test")
    assert ids.tolist() == [7, 4_000_000_000]
    assert [each.bounds for each in polygons] == [(2, 2, 4, 3), (1, 1, 2, 2)]
    polygons, ids = outline_labels(np.zeros((4, 4), dtype=int), "test")
    assert len(polygons) == len(ids) == 0


def test_numbers_beyond_that_of_pixels() -> None:
    """As in a damaged file: what is indexed by them would take gigabytes; negative ones are background."""
    labels = np.zeros((6, 8), dtype=np.int32)
    labels[0, :3], labels[2, 0], labels[2, 4:7], labels[5, 5] = 60_000_000, 60_000_000, 5, -7
    with pytest.warns(UserWarning, match="1 of 2 labels of test lie in several pieces"):
        (five, huge), ids = outline_labels(labels, "test")
    assert ids.tolist() == [5, 60_000_000]
    assert five.equals(box(4, 2, 7, 3))
    assert huge.equals(box(0, 0, 3, 1))
