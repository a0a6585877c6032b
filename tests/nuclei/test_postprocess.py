from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from stdistill._measures.instances import match_overlaps
from stdistill._nuclei.postprocess import DEPTH, MIN_AREA_PX, separate_nuclei


def maps_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and centrality of known nuclei, as a perfect network would see them."""
    centrality = np.zeros(labels.shape, dtype=np.float32)
    for number in range(1, labels.max() + 1):
        distance = ndimage.distance_transform_edt(labels == number)
        centrality += (distance / max(distance.max(), 1)).astype(np.float32)
    return (labels > 0).astype(np.float32), centrality


def discs(*places: tuple[float, float, float], shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, dtype=np.int32)
    for number, (centre_x, centre_y, radius) in enumerate(places, 1):
        labels[(np.hypot(x - centre_x, y - centre_y) < radius) & (labels == 0)] = number
    return labels


def test_touching_nuclei_are_parted_where_they_touch() -> None:
    true = discs((20, 24, 8), (34, 24, 8), (34, 38, 6))
    matches = match_overlaps(true, separate_nuclei(*maps_of(true)), min_iou=0.9)
    assert (matches.n_matched, matches.n_found) == (3, 3)


def test_a_shallow_dip_parts_nothing() -> None:
    y, x = np.mgrid[:40, :60]
    inside = (np.abs(y - 20) < 8) & (np.abs(x - 30) < 20)
    ridge = np.where(inside, 0.8 - 0.3 * np.abs(y - 20) / 8, 0)
    for dip, n in ((DEPTH / 2, 1), (3 * DEPTH, 2)):
        centrality = np.where(inside, ridge - dip * np.exp(-(((x - 30) / 5) ** 2)), 0).astype(np.float32)
        assert separate_nuclei(inside.astype(np.float32), centrality).max() == n


def test_small_holes_are_filled_and_specks_left_out() -> None:
    true = discs((20, 24, 10), (50, 10, 2))
    foreground, centrality = maps_of(true)
    foreground[24, 20] = 0
    found = separate_nuclei(foreground, centrality)
    assert found.max() == 1
    assert found[24, 20] == 1
    assert (found > 0).sum() >= MIN_AREA_PX


def test_the_numbers_have_no_gaps() -> None:
    true = discs((10, 10, 2), (30, 12, 7), (50, 10, 2), (50, 34, 7), (12, 34, 7))
    assert np.unique(separate_nuclei(*maps_of(true))).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (64, 64)])
def test_nothing_is_found_in_nothing(shape: tuple[int, int]) -> None:
    nothing = np.zeros(shape, dtype=np.float32)
    labels = separate_nuclei(nothing, nothing)
    assert labels.shape == shape
    assert labels.dtype == np.int32
    assert not labels.any()
