from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from stdistill._graph.radius import neighborhood_radius


def one_slide(points: np.ndarray) -> np.ndarray:
    return np.zeros(len(points), dtype=np.int64)


def mean_count(points: np.ndarray, places: np.ndarray, radius: float) -> float:
    return float(cKDTree(points).query_ball_point(places, radius, return_length=True).mean())


def test_even_tissue_by_hand() -> None:
    """In the plane n = density × π r²; the border of the slide adds a little to r."""
    points = np.random.default_rng(0).uniform(0, 1000, (100_000, 2))
    radius = neighborhood_radius(points, one_slide(points), 50, seed=0)
    assert radius == pytest.approx(np.sqrt(50 / (np.pi * 0.1)), rel=0.015)


def test_places_avoid_the_holes() -> None:
    """Two islands in an empty slide: the mean over the islands is met, not that over their bounding box."""
    rng = np.random.default_rng(0)
    islands = np.r_[rng.uniform(0, 500, (10_000, 2)), rng.uniform(5000, 5500, (10_000, 2))]
    radius = neighborhood_radius(islands, one_slide(islands), 50, seed=0)
    places = np.r_[rng.uniform(0, 500, (10_000, 2)), rng.uniform(5000, 5500, (10_000, 2))]
    assert mean_count(islands, places, radius) == pytest.approx(50, rel=0.03)


def test_a_lumen_is_no_tissue() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1000, (20_000, 2))
    points = points[np.linalg.norm(points - 500, axis=1) > 300]
    radius = neighborhood_radius(points, one_slide(points), 50, seed=0)
    places = rng.uniform(0, 1000, (20_000, 2))
    places = places[np.linalg.norm(places - 500, axis=1) > 300]
    assert mean_count(points, places, radius) == pytest.approx(50, rel=0.03)


def test_dense_and_sparse_tissue_count_by_area() -> None:
    """Random cells would favour the dense half; random places do not."""
    rng = np.random.default_rng(0)
    dense, sparse = rng.uniform(0, 1000, (40_000, 2)), rng.uniform((1000, 0), (2000, 1000), (4000, 2))
    points = np.r_[dense, sparse]
    radius = neighborhood_radius(points, one_slide(points), 50, seed=0)
    places = rng.uniform((0, 0), (2000, 1000), (20_000, 2))
    assert mean_count(points, places, radius) == pytest.approx(50, rel=0.05)


def test_slides_do_not_see_each_other() -> None:
    """Two slides at the same coordinates have the radius of one, not of the two laid over each other."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 500, (10_000, 2)), rng.uniform(0, 500, (10_000, 2))
    both = neighborhood_radius(np.r_[a, b], np.repeat([0, 1], 10_000), 50, seed=0)
    assert both == pytest.approx(neighborhood_radius(a, one_slide(a), 50, seed=0), rel=0.01)


def test_crowded_places_are_counted_whole() -> None:
    """One clump holds far more cells than any disc elsewhere."""
    rng = np.random.default_rng(0)
    points = np.r_[rng.uniform(0, 1000, (5000, 2)), rng.normal(500, 5, (5000, 2))]
    radius = neighborhood_radius(points, one_slide(points), 20, seed=0)
    places = rng.uniform(0, 1000, (20_000, 2))
    assert mean_count(points, places, radius) == pytest.approx(20, rel=0.1)


def test_seed() -> None:
    points = np.random.default_rng(0).uniform(0, 1000, (5000, 2))
    first, again, other = (neighborhood_radius(points, one_slide(points), 50, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first == pytest.approx(other, rel=0.01)
    assert first != other


def test_unit_does_not_matter() -> None:
    points = np.random.default_rng(0).uniform(0, 1000, (5000, 2))
    radius = neighborhood_radius(points, one_slide(points), 50, seed=0)
    assert neighborhood_radius(points * 1000, one_slide(points), 50, seed=0) == pytest.approx(1000 * radius, rel=0.01)


def test_more_neighbors_than_cells() -> None:
    points = np.random.default_rng(0).uniform(0, 10, (40, 2))
    with pytest.raises(ValueError, match=r"n_neighbors=50, but the largest slide has 40 \(training\) cells"):
        neighborhood_radius(points, one_slide(points), 50, seed=0)


def test_all_cells_at_one_place() -> None:
    with pytest.raises(ValueError, match="All cells have the same centre"):
        neighborhood_radius(np.zeros((100, 2)), np.zeros(100, dtype=np.int64), 50, seed=0)


def test_one_slide_of_a_single_cell_does_no_harm() -> None:
    points = np.r_[np.random.default_rng(0).uniform(0, 1000, (5000, 2)), [[1e5, 1e5]]]
    radius = neighborhood_radius(points, np.r_[np.zeros(5000, dtype=int), 1], 50, seed=0)
    assert radius == pytest.approx(neighborhood_radius(points[:-1], np.zeros(5000, dtype=int), 50, seed=0), rel=0.02)


def test_more_neighbors_than_most_slides_have_cells() -> None:
    rng = np.random.default_rng(0)
    points = np.r_[rng.uniform(0, 10, (60, 2)), rng.uniform(0, 100, (60, 2))]
    with pytest.raises(ValueError, match=r"n_neighbors=61, but the largest slide has 60"):
        neighborhood_radius(points, np.repeat([0, 1], 60), 61, seed=0)
    with pytest.raises(ValueError, match=r"n_neighbors=60, but the slides have only \d+ \(training\) cells on average"):
        neighborhood_radius(points[:100], np.repeat([0, 1], [60, 40]), 60, seed=0)


def test_many_cells_at_every_place() -> None:
    """Ten cells on each point of a lattice of unit distance: 50 cells are five points, of area one each."""
    lattice = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0)), axis=-1).reshape(-1, 2)
    points = lattice.repeat(10, axis=0)
    assert neighborhood_radius(points, one_slide(points), 50, seed=0) == pytest.approx(np.sqrt(5 / np.pi), rel=0.1)
