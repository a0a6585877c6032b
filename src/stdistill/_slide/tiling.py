"""Squares of one grid over an H&E: where they lie, and in which of them, and where within it, a place is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Float64s, Floats, Integers, Mask

NOWHERE = -1
"""Number of the tile, of the place or of the group of what has none."""


@dataclass(frozen=True)
class TileGrid:
    """A grid of squares that do not overlap, in pixels of the full resolution; numbers run row by row."""

    left: int
    top: int
    side: int
    n_columns: int
    n_rows: int

    def corners(self) -> npt.NDArray[np.int64]:
        """Return the upper left pixel (m, 2), as (x, y), of each square."""
        row, column = np.divmod(np.arange(self.n_rows * self.n_columns, dtype=np.int64), self.n_columns)
        corners: npt.NDArray[np.int64] = np.column_stack([column, row]) * self.side + np.array([self.left, self.top])
        return corners

    def tiles_of(self, px: Floats) -> npt.NDArray[np.int64]:
        """Return the number of the square that each place (n, 2) is in; its right and lower edges are the next one's.

        Edges lie between pixels, so that the pixel that a place is in tells the square.
        """
        column, row = ((np.floor(px).astype(np.int64) - (self.left, self.top)) // self.side).T
        inside = (column >= 0) & (column < self.n_columns) & (row >= 0) & (row < self.n_rows)
        return np.where(inside, row * self.n_columns + column, NOWHERE)

    def places_of(self, px: Floats, per_side: int) -> npt.NDArray[np.int8]:
        """Return in which of the smaller squares, `per_side` along a side and row by row, each place (n, 2) is."""
        offset = np.mod(px - (self.left, self.top), self.side)
        # Where rounding takes a place to the edge, it is in the last square.
        column, row = np.minimum((offset * per_side / self.side).astype(np.int8), per_side - 1).T
        places: npt.NDArray[np.int8] = np.where(self.tiles_of(px) == NOWHERE, NOWHERE, row * per_side + column)
        return places.astype(np.int8)


@dataclass(frozen=True)
class LaidTiles:
    """Tiles that are kept, row by row, and what lies in them."""

    side: int
    corners: npt.NDArray[np.int64]
    """Upper left pixels (m, 2), as (x, y)."""
    n_cells: Integers
    """(m,), cells in each."""
    groups: Integers
    """(m,), the group of the cells of each; `NOWHERE` where they have none."""
    tile: Integers
    """(n,), the tile that each cell is in, counted from 0."""
    place: npt.NDArray[np.int8]
    """(n,), the smallest square of its tile that it is in."""
    n_across: int
    """Tiles that were left out because cells of several groups are in them."""
    n_sparse: int
    """Tiles that were left out because too few cells are in them, but any."""


def lay_grid(low: Floats, high: Floats, side: int, shape: tuple[int, int]) -> TileGrid:
    """Lay a grid over what lies between two pixels, (x, y), of an image at least as large as a square.

    It begins at `low`, or as much before it as one square needs; all squares lie wholly on the image.

    Parameters
    ----------
    low, high
        The smallest and the largest x and y of what it is for.
    side
        Side of the squares in pixels.
    shape
        Height and width of the image.
    """
    size = np.array(shape[::-1])
    first = np.clip(np.floor(low).astype(np.int64), 0, size - side)
    numbers = np.minimum((np.floor(high).astype(np.int64) - first) // side + 1, (size - first) // side)
    return TileGrid(int(first[0]), int(first[1]), side, int(numbers[0]), int(numbers[1]))


def tile_cells(grid: TileGrid, px: Floats, groups: Integers, *, min_cells: int, per_side: int) -> LaidTiles:
    """Keep the squares of a grid with enough cells, all of one group.

    Parameters
    ----------
    grid
        The squares.
    px
        Centres (n, 2) of the cells.
    groups
        (n,), numbers from 0; `NOWHERE` for cells that are in none, which keep no square from being kept.
    min_cells
        So many cells are in each that is kept.
    per_side
        Smallest squares along the side of a tile.
    """
    tile, place = grid.tiles_of(px), grid.places_of(px, per_side)
    n_tiles, n_groups = grid.n_rows * grid.n_columns, int(groups.max(initial=0)) + 1
    n_cells = np.bincount(tile[tile != NOWHERE], minlength=n_tiles)
    known = (tile != NOWHERE) & (groups != NOWHERE)
    of_group = np.bincount(tile[known] * n_groups + groups[known], minlength=n_tiles * n_groups)
    of_group = of_group.reshape(n_tiles, n_groups)
    enough, across = n_cells >= min_cells, (of_group > 0).sum(axis=1) > 1
    kept = np.flatnonzero(enough & ~across)
    number = np.full(n_tiles + 1, NOWHERE, dtype=np.int64)  # the last, -1, is that of cells in no square
    number[kept] = np.arange(len(kept))
    tile = number[tile]
    return LaidTiles(
        side=grid.side,
        corners=grid.corners()[kept],
        n_cells=n_cells[kept],
        groups=np.where(of_group[kept].any(axis=1), of_group[kept].argmax(axis=1), NOWHERE),
        tile=tile,
        place=np.where(tile == NOWHERE, NOWHERE, place).astype(np.int8),
        n_across=int((enough & across).sum()),
        n_sparse=int(((n_cells > 0) & ~enough).sum()),
    )


def share_covered(corners: npt.NDArray[np.int64], side: int, outlines: npt.NDArray[np.object_]) -> Float64s:
    """Return how much (m,) of each square is covered by outlines, which may overlap.

    Parameters
    ----------
    corners, side
        The squares: upper left pixels (m, 2), and their side.
    outlines
        Valid polygons in pixels.
    """
    import shapely

    squares = shapely.box(*corners.T, *(corners + side).T)
    pieces = shapely.get_parts(shapely.union_all(outlines))
    tree = shapely.STRtree(pieces)
    shares = np.zeros(len(squares))
    shares[tree.query(squares, predicate="covered_by")[0]] = 1  # most of them: no need to intersect
    left = np.flatnonzero(shares == 0)
    square, piece = tree.query(squares[left], predicate="intersects")
    areas = shapely.area(shapely.intersection(squares[left[square]], pieces[piece]))
    shares[left] = np.bincount(square, weights=areas, minlength=len(left)) / side**2
    return shares


def nearest_groups(px: Floats, groups: Integers, which: Mask) -> Integers:
    """Give some places the group of the nearest place that has one.

    Parameters
    ----------
    px
        Places (n, 2).
    groups
        (n,), numbers from 0, or `NOWHERE`.
    which
        (n,), the places that get a group; they have none yet.
    """
    from scipy.spatial import cKDTree

    known = np.flatnonzero(groups != NOWHERE)
    if not len(known) or not which.any():
        return groups
    filled = groups.copy()
    filled[which] = groups[known[cKDTree(px[known]).query(px[which])[1]]]
    return filled
