"""The H&E as a pyramid of JPEG tiles, read window by window."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

from stdistill._report.pyramid import Grid, Tile, build, mean_color
from stdistill._report.store import Store
from stdistill._slide.glass import WHITE
from stdistill._slide.plan import Window
from stdistill._slide.pyramid import SlideLevel, level_for
from stdistill._slide.windows import read_windows
from stdistill._support.arrays import Pixels

JPEG_QUALITY = 78
"""By eye: nuclei at 0.5 µm per pixel show no blocks."""
FINEST_MPP = 0.45
"""Finer pixels than of a scan at 20x (0.5 µm, or a little less) are not kept."""
MAX_PX = 400_000_000
"""Of tissue: some 120 MB."""
SINGLE_MPP = 2.0
"""Finest µm per pixel of a single file."""
SINGLE_PX = 12_000_000
"""Of tissue in a single file."""


def choose_shrinkage(mpp: float, tissue_um2: float, *, single_file: bool) -> int:
    """How many times the H&E is shrunk at least, a power of two, so that it is neither too fine nor too large."""
    finest, most = (SINGLE_MPP, SINGLE_PX) if single_file else (FINEST_MPP, MAX_PX)
    shrinkage = 1
    while mpp * shrinkage < finest or tissue_um2 / (mpp * shrinkage) ** 2 > most:
        shrinkage *= 2
    return shrinkage


def write_he(levels: list[SlideLevel], shrinkage: int, grid: Grid, store: Store) -> tuple[Pixels, list[str]]:
    """Write the tiles of an H&E; return it at about 1,000 pixels, and which tiles of each level there are: all."""

    def save(_: int, level: int, column: int, row: int, pixels: Pixels) -> None:
        store.write(f"he/{level}/{column}_{row}.jpg", encode_jpeg(pixels))

    (overview,) = build(grid, _tiles(levels, shrinkage, grid), [mean_color], save)
    if overview is None:  # it has a tile everywhere
        overview = np.empty((0, 0, 3), dtype=np.uint8)
    return overview, ["1" * int(np.prod(grid.n_tiles(level))) for level in range(grid.n_levels)]


def encode_jpeg(pixels: Pixels, quality: int = JPEG_QUALITY) -> bytes:
    """Encode a picture (height, width, 3)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _tiles(levels: list[SlideLevel], shrinkage: int, grid: Grid) -> Iterator[Tile]:
    """Read the finest tiles from the level that has no fewer pixels."""
    from PIL import Image

    level = level_for(levels, shrinkage)
    scale = shrinkage / level.factor  # pixels of the level per pixel of the pyramid, x and y
    boxes = [grid.box(grid.n_levels - 1, *place) for place in grid.finest()]
    windows = []
    for left, top, width, height in boxes:
        start = np.floor(np.array([left, top]) * scale).astype(int)
        stop = np.ceil(np.array([left + width, top + height]) * scale).astype(int)
        stop = np.maximum(np.minimum(stop, level.shape[::-1]), start + 1)
        size = stop - start
        windows.append(Window(int(start[0]), int(start[1]), int(size[0]), int(size[1]), 0, 0))
    for (left, top, width, height), window, pixels in zip(
        boxes, windows, read_windows(level, windows, np.asarray(WHITE, dtype=np.uint8)), strict=True
    ):
        if pixels.shape[:2] == (height, width):
            yield [pixels.copy()]
            continue
        near = np.array([left, top]) * scale - (window.left, window.top)
        far = np.array([left + width, top + height]) * scale - (window.left, window.top)
        far = np.minimum(far, (window.width, window.height))
        shrunk = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX, box=(*near, *far))
        yield [np.asarray(shrunk)]
