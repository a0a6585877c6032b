"""Windows of a slide: what they are, how they are read, how much tissue lies in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stdistill._support.arrays import Mask, Pixels

ReadWindow = Callable[[int, int, int, int], Pixels]
"""Reads RGB (height, width, 3) from top, left, height and width, which lie on the slide."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of a slide in its pixels; those of the last row and column end with the slide."""

    number: int
    """Place among all tiles of the slide, in rows from the top."""
    top: int
    left: int
    height: int
    width: int


def cut_tiles(shape: tuple[int, int], side: int) -> list[Tile]:
    """Cut a slide of some height and width into square tiles."""
    corners = [(top, left) for top in range(0, shape[0], side) for left in range(0, shape[1], side)]
    return [
        Tile(number, top, left, min(side, shape[0] - top), min(side, shape[1] - left))
        for number, (top, left) in enumerate(corners)
    ]


def tissue_share(tile: Tile, tissue: Mask, shape: tuple[int, int]) -> float:
    """Share of a tile that is tissue by a mask of the whole slide of any size; a pixel that is cut counts wholly."""
    (top, bottom), (left, right) = (
        (start * pixels // size, -(-(start + length) * pixels // size))
        for start, length, pixels, size in (
            (tile.top, tile.height, tissue.shape[0], shape[0]),
            (tile.left, tile.width, tissue.shape[1], shape[1]),
        )
    )
    return float(tissue[top:bottom, left:right].mean())
