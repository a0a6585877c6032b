"""Polygons and their measures, against shapely; colours of cell types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from shapely import Point, Polygon

from stdistill.datasets._simulation.biology.cell_types import ARCHETYPES
from stdistill.datasets._simulation.tissue.cells import N_ANGLES
from stdistill.datasets._simulation.writing.tables import COLORS, polygon_centroids, vertices

if TYPE_CHECKING:
    from tests.datasets.conftest import SimulatedSlide


def test_colours_are_distinct_for_every_type() -> None:
    assert len(set(COLORS)) == len(COLORS) >= len(ARCHETYPES)


def test_centroids_and_areas_are_those_of_the_polygon() -> None:
    rng = np.random.default_rng(0)
    outline = rng.uniform(6, 9, (20, N_ANGLES)).astype(np.float32)
    x, y = rng.uniform(0, 50, (2, 20))
    polygons = [Polygon(p) for p in vertices(x, y, outline)]
    measured = polygon_centroids(x, y, outline)
    np.testing.assert_allclose(measured[0], [p.centroid.x for p in polygons], atol=1e-3)
    np.testing.assert_allclose(measured[1], [p.centroid.y for p in polygons], atol=1e-3)
    np.testing.assert_allclose(measured[2], [p.area for p in polygons], rtol=1e-4)


def test_a_centroid_outside_gives_way_to_the_centre() -> None:
    bent = np.where(np.arange(N_ANGLES) % (N_ANGLES // 2) < 2, 14, 0.3).astype(np.float32)[None]
    bent[0, N_ANGLES // 2 :] = 0.3
    x, y, _ = polygon_centroids(np.array([5.0]), np.array([6.0]), bent)

    assert Polygon(vertices(np.array([5.0]), np.array([6.0]), bent)[0]).buffer(1e-6).contains(Point(x[0], y[0]))


@pytest.mark.parametrize("n", [24, 12])
def test_polygons_are_closed(n: int) -> None:
    polygons = vertices(np.zeros(3), np.zeros(3), np.ones((3, N_ANGLES), np.float32), n)
    assert polygons.shape == (3, n + 1, 2)
    np.testing.assert_array_equal(polygons[:, 0], polygons[:, -1])


def test_cell_groups_leave_out_few_cells(outs: SimulatedSlide) -> None:
    groups = pd.read_csv(outs.path / "simulated_cell_groups.csv")
    assert groups.columns.tolist() == ["cell_id", "group", "color"]
    assert 0.95 * len(outs.cells) < len(groups) < len(outs.cells)
    assert groups["color"].str.fullmatch("#[0-9A-F]{6}").all()
    assert (groups.groupby("group")["color"].nunique() == 1).all()
    truth = outs.truth.set_index("cell_id")["cell_type"]
    assert (truth[groups["cell_id"]].to_numpy() == groups["group"].to_numpy()).all()
