"""Cells and tissue drawn tile by tile: which cell is at a pixel, and from that all layers at once."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from stdistill._report.layers import Layer
from stdistill._report.pyramid import TILE_PX, Grid, Tile, build, most_common
from stdistill._report.source import Outlines
from stdistill._report.store import Store
from stdistill._support.arrays import Pixels, Rows

BLOCK_CELLS = 20_000
"""Cells whose polygons are in memory beside those of the table."""
TISSUE_KEY = "outside"
VEIL = "#9aa0a6"
"""Colour of what is not tissue."""


def write_layers(
    layers: Sequence[Layer], outlines: Outlines, scale: float, grid: Grid, store: Store
) -> tuple[list[Pixels | None], list[list[str]]]:
    """Write the tiles of all layers.

    Parameters
    ----------
    layers
        What to show; codes are those of all cells of the table.
    outlines
        The cells on the slide.
    scale
        Pixels of the finest level per pixel of the slide.
    grid
        Where the tiles lie.
    store
        Takes the tiles.

    Returns
    -------
    The codes of each layer at about 1,000 pixels; and for each which tiles of each level there are, row by row, as text
    of 0 and 1: empty ones are not written.
    """
    there = [[np.zeros(grid.n_tiles(level)[::-1], dtype=bool) for level in range(grid.n_levels)] for _ in layers]
    palettes = [layer.palette for layer in layers]

    def save(number: int, level: int, column: int, row: int, pixels: Pixels) -> None:
        there[number][level][row, column] = True
        store.write(f"{layers[number].key}/{level}/{column}_{row}.png", encode_png(pixels, palettes[number]))

    codes = [np.concatenate([[0], layer.codes[outlines.cells]]).astype(np.uint8) for layer in layers]

    def color(which: npt.NDArray[np.int32] | None) -> Tile:
        if which is None:
            return [None] * len(layers)
        tile = [table[which] for table in codes]
        return [pixels if pixels.any() else None for pixels in tile]

    wholes = build(grid, map(color, draw_cells(outlines, scale, grid)), [layer.shrink for layer in layers], save)
    return wholes, [[_as_text(level) for level in levels] for levels in there]


def write_tissue(tissue: npt.NDArray[np.object_], scale: float, grid: Grid, store: Store) -> list[str]:
    """Write the tiles of what is not tissue, from polygons in pixels of the slide; return which there are."""
    there = [np.zeros(grid.n_tiles(level)[::-1], dtype=bool) for level in range(grid.n_levels)]
    palette = Layer("", "", np.empty(0, dtype=np.uint8), [VEIL]).palette

    def save(_: int, level: int, column: int, row: int, pixels: Pixels) -> None:
        there[level][row, column] = True
        store.write(f"{TISSUE_KEY}/{level}/{column}_{row}.png", encode_png(pixels, palette))

    build(grid, _draw_tissue(tissue, scale, grid), [most_common], save)
    return [_as_text(level) for level in there]


def draw_cells(outlines: Outlines, scale: float, grid: Grid) -> Iterator[npt.NDArray[np.int32] | None]:
    """Draw the cells of one finest tile after the other: the number of the cell at each pixel, 0 for none.

    Cells are numbered from 1 on in the order of `outlines`; a tile without any is `None`.
    """
    import shapely
    from PIL import Image, ImageDraw

    order, starts = sort_by_tile(outlines, scale, grid)
    columns = grid.n_tiles(grid.n_levels - 1)[0]
    for column, row in grid.finest():
        tile = row * columns + column
        cells = order[starts[tile] : starts[tile + 1]]
        if not len(cells):
            yield None
            continue
        left, top, width, height = grid.box(grid.n_levels - 1, column, row)
        image = Image.new("I", (width, height))
        draw = ImageDraw.Draw(image)
        for start in range(0, len(cells), BLOCK_CELLS):
            some = cells[start : start + BLOCK_CELLS]
            parts, owner = shapely.get_parts(outlines.polygons(some), return_index=True)
            corners, part = shapely.get_coordinates(shapely.get_exterior_ring(parts), return_index=True)
            # PIL counts from the middle of a pixel.
            flat = (corners * scale - (left + 0.5, top + 0.5)).ravel().tolist()
            ends = (2 * np.cumsum(np.bincount(part, minlength=len(parts)))).tolist()
            numbers = (some[owner] + 1).tolist()
            begin = 0
            for end, number in zip(ends, numbers, strict=True):
                if end > begin:
                    draw.polygon(flat[begin:end], fill=number)
                begin = end
        yield np.asarray(image, dtype=np.int32)


def sort_by_tile(outlines: Outlines, scale: float, grid: Grid) -> tuple[Rows, Rows]:
    """Sort the cells by the finest tiles that they touch, some of them several.

    Returns
    -------
    The numbers of the cells, tile by tile in rows; and where each tile begins (and the last one ends) among them.
    """
    import shapely

    columns, rows = grid.n_tiles(grid.n_levels - 1)
    cells, tiles = [], []
    for start in range(0, len(outlines.cells), BLOCK_CELLS):
        some = np.arange(start, min(start + BLOCK_CELLS, len(outlines.cells)))
        bounds = shapely.bounds(outlines.polygons(some)) * scale / TILE_PX
        some, bounds = some[~np.isnan(bounds[:, 0])], bounds[~np.isnan(bounds[:, 0])]
        first = np.clip(np.floor(bounds[:, :2]).astype(np.int64), 0, (columns, rows))
        last = np.clip(np.floor(bounds[:, 2:]).astype(np.int64), -1, (columns - 1, rows - 1))
        n = np.maximum(last - first + 1, 0)
        touched = n.prod(axis=1)
        which = np.repeat(np.arange(len(some)), touched)
        nth = np.arange(len(which)) - np.repeat(np.cumsum(touched) - touched, touched)
        down, right = np.divmod(nth, np.maximum(n[which, 0], 1))
        cells.append(some[which].astype(np.int32))
        tiles.append(((first[which, 1] + down) * columns + first[which, 0] + right).astype(np.int32))
    tile = np.concatenate([np.empty(0, dtype=np.int32), *tiles])
    order = np.argsort(tile, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(tile, minlength=columns * rows))])
    return np.concatenate([np.empty(0, dtype=np.int32), *cells])[order], starts


def encode_png(codes: Pixels, palette: list[int]) -> bytes:
    """Encode codes as a picture of colours, transparent where they are 0."""
    from PIL import Image

    image = Image.fromarray(codes)
    image.putpalette(palette)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    return file.getvalue()


def _draw_tissue(tissue: npt.NDArray[np.object_], scale: float, grid: Grid) -> Iterator[Tile]:
    import shapely
    from PIL import Image, ImageDraw

    pieces = shapely.get_parts(shapely.transform(tissue, lambda points: points * scale))
    for column, row in grid.finest():
        left, top, width, height = grid.box(grid.n_levels - 1, column, row)
        image = Image.new("L", (width, height), 1)
        draw = ImageDraw.Draw(image)
        # A margin, so that no edge of the clipping is seen.
        clipped = shapely.get_parts(shapely.clip_by_rect(pieces, left - 2, top - 2, left + width + 2, top + height + 2))
        for piece in clipped[shapely.get_type_id(clipped) == shapely.GeometryType.POLYGON]:
            rings = [(piece.exterior, 0), *((hole, 1) for hole in piece.interiors)]
            for ring, code in rings:
                draw.polygon((shapely.get_coordinates(ring) - (left + 0.5, top + 0.5)).ravel().tolist(), fill=code)
        pixels = np.asarray(image)
        yield [pixels if pixels.any() else None]


def _as_text(tiles: npt.NDArray[np.bool_]) -> str:
    return "".join("1" if is_there else "0" for is_there in tiles.ravel())
