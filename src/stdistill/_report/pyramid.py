"""Image pyramids: tiles of one size, each level half as large as the next finer one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stdistill._support.arrays import Pixels

TILE_PX = 512
"""Side of a tile: a screen shows about a dozen of them."""

Tile = list[Pixels | None]
"""One place in several pictures at once, (height, width) or (height, width, 3) each; `None` where one is empty."""


@dataclass(frozen=True)
class Grid:
    """Where the tiles of a pyramid lie; level 0 is a single tile."""

    width: int
    height: int
    """Pixels of the finest level."""

    @property
    def n_levels(self) -> int:
        """How many levels there are."""
        return 1 + max(0, int(np.ceil(np.log2(max(self.width, self.height) / TILE_PX))))

    def size(self, level: int) -> tuple[int, int]:
        """Width and height of a level."""
        shrinkage = 2 ** (self.n_levels - 1 - level)
        return -(-self.width // shrinkage), -(-self.height // shrinkage)

    def n_tiles(self, level: int) -> tuple[int, int]:
        """Columns and rows of a level."""
        width, height = self.size(level)
        return -(-width // TILE_PX), -(-height // TILE_PX)

    def box(self, level: int, column: int, row: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of a tile; those at the right and at the bottom are smaller."""
        width, height = self.size(level)
        left, top = column * TILE_PX, row * TILE_PX
        return left, top, min(TILE_PX, width - left), min(TILE_PX, height - top)

    def parts(self, level: int, column: int, row: int) -> list[tuple[int, int]]:
        """Columns and rows of the up to four tiles of the next finer level that a tile shows."""
        columns, rows = self.n_tiles(level + 1)
        places = [(2 * column + right, 2 * row + down) for down in (0, 1) for right in (0, 1)]
        return [(x, y) for x, y in places if x < columns and y < rows]

    def finest(self, level: int = 0, column: int = 0, row: int = 0) -> Iterator[tuple[int, int]]:
        """Columns and rows of the finest tiles, in the order in which `build` takes them."""
        if level == self.n_levels - 1:
            yield column, row
            return
        for part in self.parts(level, column, row):
            yield from self.finest(level + 1, *part)


def build(
    grid: Grid,
    finest: Iterator[Tile],
    shrinks: Sequence[Callable[[Pixels], Pixels]],
    save: Callable[[int, int, int, int, Pixels], None],
) -> Tile:
    """Make the pyramids of pictures from their finest tiles, and return the whole at up to twice the side of a tile.

    Tiles are made depth first: of each level no more than four are in memory.

    Parameters
    ----------
    grid
        Where the tiles lie.
    finest
        The tiles of the finest level, in the order of `Grid.finest`.
    shrinks
        For each picture what halves it: its sides are even.
    save
        Takes the number of a picture, level, column and row, and the pixels.
    """

    def make(level: int, column: int, row: int) -> Tile:
        is_finest = level == grid.n_levels - 1
        tile = next(finest) if is_finest else _halve(join(level, column, row), shrinks)
        for number, pixels in enumerate(tile):
            if pixels is not None:
                save(number, level, column, row, pixels)
        return tile

    def join(level: int, column: int, row: int) -> Tile:
        joined: Tile = [None] * len(shrinks)
        left, top, _, _ = grid.box(level, column, row)
        width, height = (
            min(2 * TILE_PX, side - 2 * start) for side, start in zip(grid.size(level + 1), (left, top), strict=True)
        )
        for x, y in grid.parts(level, column, row):
            for number, pixels in enumerate(make(level + 1, x, y)):
                if pixels is None:
                    continue
                canvas = joined[number]
                if canvas is None:
                    canvas = joined[number] = np.zeros((height, width, *pixels.shape[2:]), dtype=np.uint8)
                down, right = (y - 2 * row) * TILE_PX, (x - 2 * column) * TILE_PX
                canvas[down : down + pixels.shape[0], right : right + pixels.shape[1]] = pixels
        return joined

    if grid.n_levels == 1:
        return make(0, 0, 0)
    whole = join(0, 0, 0)
    for number, pixels in enumerate(_halve(whole, shrinks)):
        if pixels is not None:
            save(number, 0, 0, 0, pixels)
    return whole


def _halve(tile: Tile, shrinks: Sequence[Callable[[Pixels], Pixels]]) -> Tile:
    halved: Tile = []
    for pixels, shrink in zip(tile, shrinks, strict=True):
        if pixels is None:
            halved.append(None)
            continue
        odd = [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)] * (pixels.ndim - 2)
        halved.append(shrink(np.pad(pixels, odd, mode="edge")))
    return halved


def quarters(pixels: Pixels) -> Pixels:
    """Stack the four pixels (4, height, width, …) that become one."""
    return np.stack([pixels[down::2, right::2] for down in (0, 1) for right in (0, 1)])


def mean_color(pixels: Pixels) -> Pixels:
    """Halve a picture of colours: the mean of four."""
    total = quarters(pixels).sum(axis=0, dtype=np.uint16)
    mean: Pixels = ((total + 2) // 4).astype(np.uint8)
    return mean


def mean_code(pixels: Pixels) -> Pixels:
    """Halve a picture of numbers, 0 where there is none: the mean of those of the four that there are."""
    parts = quarters(pixels)
    known = (parts > 0).sum(axis=0, dtype=np.uint16)
    total = parts.sum(axis=0, dtype=np.uint16)
    mean: Pixels = np.where(known > 0, (total + known // 2) // np.maximum(known, 1), 0).astype(np.uint8)
    return mean


def most_common(pixels: Pixels) -> Pixels:
    """Halve a picture of categories, 0 where there is none: the most common of the four that there are."""
    parts = quarters(pixels)
    votes = (parts[:, None] == parts[None]).sum(axis=0, dtype=np.uint8)
    votes[parts == 0] = 0
    winner = votes.argmax(axis=0)
    chosen: Pixels = np.take_along_axis(parts, winner[None], axis=0)[0]
    return chosen
