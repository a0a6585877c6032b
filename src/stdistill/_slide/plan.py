"""Which windows of a slide are read, and which crops lie in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from stdistill._slide.pyramid import SlideLevel
from stdistill._support.arrays import Float64s, Floats

CROP_PX = 224
"""Side of a crop (Hizmi et al. 2026, section 5.2)."""
WINDOW_PX = 2048
"""Windows have about this side: 15 MB to upload, and a margin of crops around them that is small beside it."""


@dataclass(frozen=True)
class Window:
    """A rectangle of a level that covers some crops; it may reach over the edge of the level."""

    left: int
    top: int
    width: int
    height: int
    start: int
    """The first of its crops, in the order of the plan."""
    stop: int
    """One past the last of them."""


@dataclass(frozen=True)
class CropPlan:
    """The crops of one slide, in the order in which they are cut."""

    level: SlideLevel
    order: npt.NDArray[np.int64]
    """Rows (n,) of the cells, in the order of the plan."""
    boxes: Float64s
    """Upper left corners (n, 2), as (x, y), in pixels of the level; whole numbers at full resolution."""
    box_side: Float64s
    """Width and height of every crop in pixels of the level."""
    windows: list[Window]

    @property
    def read_px(self) -> tuple[int, int]:
        """Width and height of the pixels that cover any crop."""
        whole = np.all(self.level.factor == 1)
        width, height = self.box_side.astype(int) if whole else np.ceil(self.box_side).astype(int) + 1
        return int(width), int(height)


@dataclass(frozen=True)
class Slide:
    """What is read of one H&E."""

    plan: CropPlan
    background: npt.NDArray[np.uint8]
    """Colour (3,) of what lies off the image."""
    look: int = 0
    """With which look it is seen; 0: as it is."""
    source: SlideLevel | None = None
    """The level without the look, by which the image is told from others; `None` where there is none."""


def crop_origins(px: Floats, crop_px: int) -> npt.NDArray[np.int64]:
    """Upper left pixels (x, y) of the square crops of `crop_px` pixels that are centred best on `px`.

    A crop covers the pixels [origin, origin + `crop_px`) of both axes. Everything that needs to know what a
    crop shows asks here.
    """
    origins: npt.NDArray[np.int64] = np.floor(px - crop_px / 2 + 0.5).astype(np.int64)
    return origins


def plan_crops(
    level: SlideLevel,
    cells: npt.NDArray[np.int64],
    origins: npt.NDArray[np.int64],
    side: int,
    margin: int = 0,
) -> CropPlan:
    """Group crops by windows that follow each other along the chunks of the image.

    Parameters
    ----------
    level
        The level to read.
    cells
        Rows (n,) of the cells.
    origins
        Upper left corners (n, 2) of their crops, as (x, y), in pixels of the full resolution.
    side
        Side of the crops in pixels of the full resolution.
    margin
        What windows show beyond the crops, likewise.
    """
    boxes, box_side = origins / level.factor, side / level.factor
    column, row = _grid_places(boxes + box_side / 2, level).T
    order = np.lexsort((column, row))
    boxes = boxes[order]
    changes = np.flatnonzero(np.diff(row[order]) | np.diff(column[order])) + 1
    bounds = np.concatenate([[0], changes, [len(order)]]).astype(int)
    plan = CropPlan(level, cells[order], boxes, box_side, windows=[])
    corners = np.floor(boxes).astype(np.int64)
    beyond = np.ceil(margin / level.factor).astype(np.int64)
    for start, stop in pairwise(bounds):
        if start == stop:  # there is no cell at all
            continue
        left, top = corners[start:stop].min(axis=0) - beyond
        width, height = corners[start:stop].max(axis=0) - (left, top) + plan.read_px + beyond
        plan.windows.append(Window(int(left), int(top), int(width), int(height), int(start), int(stop)))
    return plan


def chunks_under(window: Window, level: SlideLevel) -> Iterator[tuple[int, int]]:
    """List the chunks (row, column) of the level that a window covers."""
    row_ends, column_ends = (np.cumsum(sizes) for sizes in level.pixels.chunks[1:])
    rows = _overlapping(row_ends, window.top, window.top + window.height)
    columns = _overlapping(column_ends, window.left, window.left + window.width)
    return ((row, column) for row in rows for column in columns)


def _overlapping(ends: npt.NDArray[np.int64], start: int, stop: int) -> range:
    first = int(np.searchsorted(ends, max(start, 0), side="right"))
    last = int(np.searchsorted(ends, min(stop, ends[-1]) - 1, side="right"))
    return range(first, last + 1)


def _grid_places(centers: Float64s, level: SlideLevel) -> npt.NDArray[np.int64]:
    """Column and row of the window of each centre (n, 2).

    Windows end in the middle of chunks: crops on either side of the border lie in one row of chunks, if these are
    larger than crops.
    """
    chunk = np.array([level.pixels.chunks[2][0], level.pixels.chunks[1][0]])
    window = chunk * np.maximum(1, np.rint(WINDOW_PX / chunk))
    places: npt.NDArray[np.int64] = np.floor((centers - chunk / 2) / window).astype(np.int64)
    return places
