from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image
from scipy.spatial import KDTree

from stdistill._report.cells import BIN_PX, PARTS, write_cells
from stdistill._report.drawing import draw_cells, encode_png, sort_by_tile, write_layers, write_tissue
from stdistill._report.layers import Layer
from stdistill._report.pyramid import Grid
from stdistill._report.source import Outlines
from stdistill._report.store import FolderStore


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.inline: dict[str, str] = {}

    def write(self, path: str, content: bytes) -> None:
        self.files[path] = content

    def link(self, path: str) -> str:
        return path


def outlines_of(polygons: Any) -> Outlines:
    shapes = np.array(polygons, dtype=object)
    return Outlines(np.arange(len(shapes)), lambda which: shapes[which])


def random_cells(n: int, side: float) -> Any:
    centers = np.random.default_rng(0).uniform(0, side, (n, 2))
    return shapely.buffer(shapely.points(centers), 9.0, quad_segs=4)


def test_sorted_by_tile() -> None:
    """A cell is in each tile that it touches, as shapely says, and in no other."""
    grid, scale = Grid(1400, 900), 0.5
    cells = random_cells(300, 2600)
    order, starts = sort_by_tile(outlines_of(cells), scale, grid)
    columns, rows = grid.n_tiles(grid.n_levels - 1)
    assert len(starts) == columns * rows + 1
    for tile in range(columns * rows):
        left, top = 1024 * (tile % columns), 1024 * (tile // columns)
        boxes = shapely.box(*shapely.bounds(cells).T)
        touched = shapely.intersects(boxes, shapely.box(left, top, left + 1024, top + 1024))
        assert set(order[starts[tile] : starts[tile + 1]]) == set(np.flatnonzero(touched))


def test_cells_are_drawn_where_they_are() -> None:
    """By an independent test of each pixel's middle; edges may differ by a pixel."""
    grid, scale = Grid(600, 520), 0.5
    cells = shapely.buffer(shapely.points([[100.0, 80.0], [1020.0, 300.0], [1030.0, 1020.0]]), 30.0, quad_segs=8)
    found = np.zeros((520, 600), dtype=np.int64)
    for place, which in zip(grid.finest(), draw_cells(outlines_of(cells), scale, grid), strict=True):
        left, top, width, height = grid.box(grid.n_levels - 1, *place)
        if which is not None:
            found[top : top + height, left : left + width] = which
    y, x = np.mgrid[:520, :600] + 0.5
    for number, cell in enumerate(cells, start=1):
        surely = shapely.contains_xy(cell.buffer(-2), x / scale, y / scale)
        perhaps = shapely.contains_xy(cell.buffer(3), x / scale, y / scale)
        assert (found[surely] == number).all()
        assert not (found[~perhaps] == number).any()


def test_layers(tmp_path: Path) -> None:
    """Tiles show the colours of the cells, and are transparent elsewhere; those that are empty are not written."""
    cells = shapely.box([10, 1500], [10, 10], [40, 1530], [40, 50])
    codes = np.array([1, 2], dtype=np.uint8)
    layer = Layer("student_niche", "Student", codes, ["#ff0000", "#0000ff"], ["a", "b"])
    alone = Layer("other_niche", "Other", np.array([1, 0], dtype=np.uint8), ["#00ff00"], ["c"])
    grid = Grid(2048, 600)
    store = FolderStore(tmp_path)
    wholes, there = write_layers([layer, alone], outlines_of(cells), 1.0, grid, store)
    assert there[0] == ["1", "11", "10100000"]
    assert there[1] == ["1", "10", "10000000"]
    written = {
        str(path.relative_to(tmp_path / "student_niche")) for path in (tmp_path / "student_niche").rglob("*.png")
    }
    assert written == {"0/0_0.png", "1/0_0.png", "1/1_0.png", "2/0_0.png", "2/2_0.png"}
    tile = np.asarray(Image.open(tmp_path / "student_niche" / "2" / "2_0.png").convert("RGBA"))
    assert tile[20, 1500 - 1024 + 10].tolist() == [0, 0, 255, 255]
    assert tile[200, 200, 3] == 0
    assert wholes[0] is not None
    assert set(np.unique(wholes[0])) == {0, 1, 2}


def test_tissue() -> None:
    """What is tissue stays clear, its holes do not."""
    store = Kept()
    piece = shapely.Polygon(shapely.box(0, 0, 1000, 1000).exterior, [shapely.box(200, 200, 400, 400).exterior])
    grid = Grid(1200, 600)
    write_tissue(np.array([piece], dtype=object), 0.5, grid, store)
    last = grid.n_levels - 1
    left = np.asarray(Image.open(io.BytesIO(store.files[f"outside/{last}/0_0.png"])).convert("RGBA"))
    assert left[50, 50, 3] == 0
    assert left[150, 150, 3] == 255
    right = np.asarray(Image.open(io.BytesIO(store.files[f"outside/{last}/1_0.png"])).convert("RGBA"))
    assert right[100, 100, 3] == 255


def test_png() -> None:
    codes = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    palette = [0, 0, 0, *(value for number in range(1, 256) for value in (number, 0, 255 - number))]
    found = np.asarray(Image.open(io.BytesIO(encode_png(codes, palette))).convert("RGBA"))
    assert found[0, 0, 3] == 0
    assert found[1, 1].tolist() == [255, 0, 0, 255]


def test_cells_for_the_click() -> None:
    """Each cell is in the file of its square, with its place and codes."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 3 * BIN_PX, (500, 2))
    codes = [rng.integers(0, 256, 500).astype(np.uint8) for _ in range(2)]
    store = Kept()
    names = write_cells(pixels, codes, store)
    assert len(names) == len(set(names)) == 9
    found = []
    for name in names:
        text = store.files[f"cells/{name}.js"].decode()
        assert text.startswith(f'stdistillCells("{name}","')
        content = base64.b64decode(text.split('"')[3])
        n = len(content) // 6
        column, row = map(int, name.split("_"))
        x, y = np.frombuffer(content, "<u2", 2 * n).reshape(2, n) / PARTS
        first, second = np.frombuffer(content, np.uint8, offset=4 * n).reshape(2, n)
        found.append(np.stack([x + column * BIN_PX, y + row * BIN_PX, first, second], axis=1))
    found_cells, expected = np.concatenate(found), np.stack([*pixels.T, *codes], axis=1)
    assert len(found_cells) == 500
    # Cells whose rounded places tie in one direction have no order of their own: each is looked up where it was put.
    apart, rows = KDTree(expected[:, :2]).query(found_cells[:, :2])
    assert apart.max() < np.sqrt(2) / PARTS
    assert sorted(rows) == list(range(500))
    np.testing.assert_array_equal(found_cells[:, 2:], expected[rows, 2:])
    assert write_cells(np.empty((0, 2)), codes, store) == []
