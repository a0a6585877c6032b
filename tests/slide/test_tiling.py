from __future__ import annotations

import numpy as np
import shapely

from stdistill._slide.tiling import NOWHERE, TileGrid, lay_grid, nearest_groups, share_covered, tile_cells


def points(*places: tuple[float, float]) -> np.ndarray:
    return np.array(places, dtype=np.float64)


def test_a_grid_begins_at_the_upper_left_and_lies_wholly_on_the_image() -> None:
    grid = lay_grid(np.array([10.7, 20.2]), np.array([95.0, 60.0]), 20, shape=(79, 100))
    # Across, 10, 30, 50, 70 and no more (90 would reach to 110 of 100); down, 20 and 40 (60 would reach to 80 of 79).
    assert grid == TileGrid(10, 20, 20, n_columns=4, n_rows=2)
    assert grid.corners()[[0, 1, 4, 7]].tolist() == [[10, 20], [30, 20], [10, 40], [70, 40]]
    # No further than it is needed: the last place is in the second column.
    assert lay_grid(np.array([10.0, 20.0]), np.array([49.9, 20.0]), 20, (79, 100)) == TileGrid(10, 20, 20, 2, 1)
    assert lay_grid(np.array([10.0, 20.0]), np.array([50.0, 20.0]), 20, (79, 100)) == TileGrid(10, 20, 20, 3, 1)


def test_a_grid_at_the_end_of_the_image_moves_back_for_one_square() -> None:
    assert lay_grid(np.array([95.0, 70.0]), np.array([99.0, 78.0]), 20, shape=(79, 100)) == TileGrid(80, 59, 20, 1, 1)
    assert lay_grid(np.array([0.0, 0.0]), np.array([19.0, 19.0]), 20, shape=(20, 20)) == TileGrid(0, 0, 20, 1, 1)


def test_an_edge_is_the_next_squares() -> None:
    grid = TileGrid(10, 20, 8, n_columns=2, n_rows=2)
    inside = points((10, 20), (17.999, 20), (18, 20), (17.999, 27.999), (10, 28), (25.999, 35.999))
    assert grid.tiles_of(inside).tolist() == [0, 0, 1, 0, 2, 3]
    outside = points((9.999, 20), (10, 19.999), (26, 20), (10, 36))
    assert grid.tiles_of(outside).tolist() == [NOWHERE] * 4
    assert grid.places_of(inside, 4).tolist() == [0, 3, 0, 15, 0, 15]
    assert grid.places_of(outside, 4).tolist() == [NOWHERE] * 4
    # Places are 2 pixels wide: the last of the first row, and the first of the second.
    assert grid.places_of(points((10, 21.999), (16, 20), (12, 22), (13.999, 22), (14, 25)), 4).tolist() == [
        0,
        3,
        5,
        5,
        10,
    ]


def test_sides_that_are_no_multiple_of_the_places() -> None:
    grid = TileGrid(0, 0, 467, n_columns=3, n_rows=1)
    assert grid.places_of(points((116.74, 0), (116.75, 0), (467 + 350.24, 0), (467 + 350.25, 0)), 4).tolist() == [
        0,
        1,
        2,
        3,
    ]
    last = np.nextafter(467.0, 0)
    assert grid.tiles_of(points((last, last))).tolist() == [0]
    assert grid.places_of(points((last, last)), 4).tolist() == [15]


def test_any_places_equal_a_loop() -> None:
    rng = np.random.default_rng(0)
    grid = lay_grid(np.array([13.0, 5.0]), np.array([170.0, 140.0]), 23, shape=(160, 180))
    px = np.concatenate([rng.uniform(0, 180, (2000, 2)), rng.integers(0, 180, (2000, 2)).astype(float)])
    tiles, places = grid.tiles_of(px), grid.places_of(px, 4)
    corners = grid.corners()
    for (x, y), tile, place in zip(px, tiles, places, strict=True):
        within = [n for n, (left, top) in enumerate(corners) if left <= x < left + 23 and top <= y < top + 23]
        assert ([tile] if tile != NOWHERE else []) == within
        if within:
            column, row = int((x - corners[tile, 0]) / 23 * 4), int((y - corners[tile, 1]) / 23 * 4)
            assert place == 4 * row + column


def test_what_is_kept() -> None:
    grid = TileGrid(0, 0, 10, n_columns=4, n_rows=1)
    px = points((1, 1), (2, 9), (11, 1), (25, 1), (29, 1), (28, 2), (31, 1), (39, 9), (45, 1))
    groups = np.array([0, 0, 0, 1, 0, 1, 1, NOWHERE, 0])
    laid = tile_cells(grid, px, groups, min_cells=2, per_side=4)
    assert laid.corners.tolist() == [[0, 0], [30, 0]]
    assert laid.n_cells.tolist() == [2, 2]
    assert laid.groups.tolist() == [0, 1]
    assert laid.tile.tolist() == [0, 0, *[NOWHERE] * 4, 1, 1, NOWHERE]
    assert laid.place.tolist() == [0, 12, *[NOWHERE] * 4, 0, 15, NOWHERE]
    assert (laid.n_across, laid.n_sparse) == (1, 1)
    without = tile_cells(grid, px, np.full(len(px), NOWHERE), min_cells=1, per_side=4)
    assert without.n_cells.tolist() == [2, 1, 3, 2]
    assert without.groups.tolist() == [NOWHERE] * 4


def test_groups_of_the_nearest() -> None:
    px = points((0, 0), (10, 0), (4, 0), (6, 0), (9, 0), (5, 1))
    groups = np.array([0, 1, NOWHERE, NOWHERE, NOWHERE, NOWHERE])
    which = np.array([False, False, True, True, False, True])
    filled = nearest_groups(px, groups, which)
    assert filled[:5].tolist() == [0, 1, 0, 1, NOWHERE]
    assert groups[2] == NOWHERE
    nobody = np.full(6, NOWHERE)
    assert nearest_groups(px, nobody, which) is nobody


def test_share_covered() -> None:
    corners = np.array([[0, 0], [10, 0], [20, 0], [30, 0], [40, 0]])
    ring = shapely.Polygon(shapely.box(12, 0, 30, 10).exterior, [shapely.box(14, 2, 18, 7).exterior])
    over_it = shapely.box(25, 5, 33, 20)
    found = share_covered(corners, 10, np.array([ring, over_it, shapely.box(40, 0, 44.7, 10)]))
    np.testing.assert_allclose(found, [0, 0.8 - 0.2, 1, 0.15, 0.47])
