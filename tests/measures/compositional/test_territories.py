from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import Voronoi
from shapely import Point, Polygon

from stdistill._measures.compositional.territories import REACH_UM, territories
from stdistill._measures.labels import Labels


def scattered(n: int) -> np.ndarray:
    """Places far from each other, anywhere on the grid that is summed over."""
    corners = np.stack(np.divmod(np.arange(n), 10), axis=1) * 200.0 - 500
    return corners + np.random.default_rng(0).uniform(0, 20, (n, 2))


def test_a_cell_alone_has_a_disc() -> None:
    (found,) = territories(scattered(100), Labels(np.zeros(100, dtype=int), ["a"]))
    assert found / 100 == pytest.approx(np.pi * REACH_UM**2, rel=0.01)


def test_two_cells_share_what_lies_between_them() -> None:
    left = scattered(100)
    centers = np.concatenate([left, left + np.array([20, 0])])
    found = territories(centers, Labels(np.repeat([0, 1], 100), ["left", "right"]))
    beyond = Polygon([(10, -99), (99, -99), (99, 99), (10, 99)])
    np.testing.assert_allclose(found / 100, Point(0, 0).buffer(REACH_UM, 64).difference(beyond).area, rtol=0.01)


def test_polygons_of_a_dense_tissue() -> None:
    """Beside the polygons themselves, of cells whose polygons are closed and within reach."""
    rng = np.random.default_rng(0)
    centers = rng.uniform(0, 500, (3000, 2))
    inner = (np.abs(centers - 250) < 180).all(axis=1)
    codes = np.where(inner, (centers[:, 0] > 250).astype(int), -1)
    found = territories(centers, Labels(codes, ["left", "right"]))
    diagram = Voronoi(centers)
    areas = [
        Polygon(diagram.vertices[diagram.regions[diagram.point_region[cell]]]).area for cell in np.flatnonzero(inner)
    ]
    expected = np.bincount(codes[inner], areas)
    np.testing.assert_allclose(found, expected, rtol=0.01)


def test_what_is_nearest_to_cells_without_a_niche_is_nobodys() -> None:
    centers = np.random.default_rng(1).uniform(0, 300, (500, 2))
    codes = np.arange(500) % 3 - 1
    some = territories(centers, Labels(codes, ["a", "b"]))
    every = territories(centers, Labels(codes + 1, ["none", "a", "b"]))
    np.testing.assert_allclose(some, every[1:])
