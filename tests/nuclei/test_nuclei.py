from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from skimage.measure import regionprops_table

from stdistill._nuclei.nuclei import join_nuclei, measure_nuclei

GREY = np.full((3, 256, 320), 0.5, dtype=np.float32)


def test_measures_are_those_of_regionprops(field: Any) -> None:
    nuclei = measure_nuclei(field.labels, GREY, mpp=0.5)
    names = ("centroid", "area", "eccentricity", "solidity")
    expected = regionprops_table(field.labels, properties=names)
    assert len(nuclei) == len(field.centres)
    np.testing.assert_allclose(nuclei.centroids[:, 0], expected["centroid-1"] + 0.5)
    np.testing.assert_allclose(nuclei.centroids[:, 1], expected["centroid-0"] + 0.5)
    np.testing.assert_allclose(
        nuclei.eccentricity, expected["eccentricity"], atol=0.005
    )  # ours counts a pixel's own variance
    np.testing.assert_allclose(nuclei.area_um2, expected["area"] * 0.25, rtol=0.05)
    np.testing.assert_allclose(nuclei.solidity, expected["solidity"], atol=0.06)
    assert (nuclei.solidity <= 1).all()


def test_haematoxylin_is_unmixed_and_averaged() -> None:
    labels = np.zeros((4, 6), dtype=np.int32)
    labels[1:3, 1:3], labels[1:3, 4:] = 1, 2
    haematoxylin, eosin = (np.array(v)[:, None, None] for v in ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)))
    amount = np.where(labels == 1, 1.0, np.where(np.arange(6) == 4, 0.2, 0.6))
    density = (amount * haematoxylin + 0.3 * eosin).astype(np.float32)
    np.testing.assert_allclose(measure_nuclei(labels, density, mpp=1).haematoxylin, (1.0, 0.4), rtol=1e-5)


def test_a_spindle_is_eccentric_and_a_disc_is_not() -> None:
    y, x = np.mgrid[:60, :80]
    labels = (np.hypot(x - 20, y - 30) < 10) + 2 * (np.hypot((x - 60) / 5, (y - 30) / 20) < 1)
    disc, spindle = measure_nuclei(labels.astype(np.int32), np.zeros((3, 60, 80), np.float32), mpp=1).eccentricity
    assert disc < 0.1
    assert spindle == pytest.approx(np.sqrt(1 - (5 / 20) ** 2), abs=0.01)


def test_nuclei_are_placed_and_chosen() -> None:
    labels = np.zeros((4, 6), dtype=np.int32)
    labels[1:3, 1:3], labels[1:3, 4:] = 1, 2
    nuclei = measure_nuclei(labels, np.zeros((3, 4, 6), np.float32), mpp=1)
    placed = nuclei.placed(2.0, 100, 10)[np.array([False, True])]
    assert placed.centroids.tolist() == [[110, 14]]
    assert placed.polygons[0].bounds == (108, 12, 112, 16)
    assert placed.area_um2.tolist() == nuclei.area_um2[1:].tolist()


def test_parts_are_joined_in_order() -> None:
    labels = np.zeros((4, 6), dtype=np.int32)
    labels[1:3, 1:3] = 1
    one = measure_nuclei(labels, np.zeros((3, 4, 6), np.float32), mpp=1)
    joined = join_nuclei([one, one.placed(1, 50, 0)])
    assert joined.centroids.tolist() == [[2, 2], [52, 2]]
    assert shapely.area(joined.polygons).tolist() == [3.5, 3.5]


def test_there_may_be_none() -> None:
    none = measure_nuclei(np.zeros((4, 6), np.int32), np.zeros((3, 4, 6), np.float32), mpp=1)
    for nuclei in (none, none.placed(2, 0, 0), join_nuclei([]), join_nuclei([none, none])):
        assert len(nuclei) == 0
        assert nuclei.centroids.shape == (0, 2)
        assert nuclei.polygons.dtype == object
