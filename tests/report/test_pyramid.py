from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from stdistill._report.pyramid import TILE_PX, Grid, Tile, build, mean_code, mean_color, most_common
from stdistill._support.arrays import Pixels


def test_grid() -> None:
    grid = Grid(1300, 500)
    assert grid.n_levels == 3
    assert [grid.size(level) for level in range(3)] == [(325, 125), (650, 250), (1300, 500)]
    assert [grid.n_tiles(level) for level in range(3)] == [(1, 1), (2, 1), (3, 1)]
    assert grid.box(2, 2, 0) == (1024, 0, 276, 500)
    assert list(grid.finest()) == [(0, 0), (1, 0), (2, 0)]
    assert Grid(TILE_PX, 1).n_levels == 1
    assert Grid(TILE_PX + 1, 1).n_levels == 2


@pytest.mark.parametrize("size", [(1, 1), (512, 512), (513, 700), (2049, 1025), (3000, 5)])
def test_pyramid_of_a_picture(size: tuple[int, int]) -> None:
    """Tiles of a level, put together, are the picture halved so many times; each place is there once."""
    grid = Grid(*size)
    picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    at_once: list[int] = []

    def tiles() -> Iterator[Tile]:
        for place in grid.finest():
            left, top, width, height = grid.box(grid.n_levels - 1, *place)
            yield [picture[top : top + height, left : left + width]]

    found = {level: np.zeros((*grid.size(level)[::-1], 3), dtype=np.uint8) for level in range(grid.n_levels)}
    seen: set[tuple[int, int, int]] = set()

    def save(number: int, level: int, column: int, row: int, pixels: Pixels) -> None:
        assert number == 0
        assert (level, column, row) not in seen
        seen.add((level, column, row))
        left, top, width, height = grid.box(level, column, row)
        assert pixels.shape == (height, width, 3)
        found[level][top : top + height, left : left + width] = pixels
        at_once.append(pixels.size)

    (whole,) = build(grid, tiles(), [mean_color], save)
    assert whole is not None
    assert max(whole.shape[:2]) <= 2 * TILE_PX
    assert len(seen) == sum(int(np.prod(grid.n_tiles(level))) for level in range(grid.n_levels))
    expected = picture
    for level in reversed(range(grid.n_levels)):
        np.testing.assert_array_equal(found[level], expected)
        odd = [(0, side % 2) for side in expected.shape[:2]] + [(0, 0)]
        expected = mean_color(np.pad(expected, odd, mode="edge"))


def test_empty_tiles_are_left_out() -> None:
    grid = Grid(2048, 2048)
    full = np.ones((TILE_PX, TILE_PX), dtype=np.uint8)
    tiles = ([full if place == (3, 0) else None] for place in grid.finest())
    saved: list[tuple[int, ...]] = []
    build(grid, tiles, [most_common], lambda *place: saved.append(place[1:4]))
    assert sorted(saved) == [(0, 0, 0), (1, 1, 0), (2, 3, 0)]


def test_halves() -> None:
    codes = np.array([[1, 1, 0, 0, 0, 3], [2, 1, 0, 0, 2, 3]], dtype=np.uint8)
    assert most_common(codes).tolist() == [[1, 0, 3]]
    assert mean_code(codes).tolist() == [[1, 0, 3]]
    alone = np.array([[0, 0], [0, 7]], dtype=np.uint8)
    assert most_common(alone).tolist() == [[7]]  # what is alone is still seen from afar
    assert mean_code(alone).tolist() == [[7]]
    assert mean_color(np.array([[[0], [255]], [[255], [255]]], dtype=np.uint8)).tolist() == [[[191]]]
    bright = np.full((2, 2), 255, dtype=np.uint8)
    assert mean_code(bright).tolist() == [[255]]
