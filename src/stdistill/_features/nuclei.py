"""Nuclei of a slide: found on the level of its pyramid that methods are made for, or looked at where they are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import shapely
from skimage.color import hed_from_rgb

from stdistill._nuclei.density import DARKEST, NUCLEUS_PX, TYPICAL_UM
from stdistill._nuclei.given import sample_places
from stdistill._nuclei.methods import Find
from stdistill._nuclei.nuclei import Nuclei, join_nuclei
from stdistill._nuclei.scale import estimate_mpp
from stdistill._nuclei.store import NucleusStore
from stdistill._nuclei.tiles import detect_nuclei, plan_tiles, seen_from
from stdistill._nuclei.windows import Tile, cut_tiles
from stdistill._slide.plan import Window
from stdistill._slide.pyramid import SlideLevel
from stdistill._slide.windows import read_windows, sample_squares
from stdistill._support.arrays import Float64s, Mask, Pixels
from stdistill._support.files import digest
from stdistill._support.progress import Progress
from stdistill._training.state import own_torch_state

WORKING_MPP = TYPICAL_UM / NUCLEUS_PX
"""µm per pixel at which methods see nuclei; a finer level of a slide need not be read."""
WINDOW_PX = 1024
N_SAMPLED = 4
"""Chunks of an image by which it is told from another."""


@own_torch_state()
def find_on_level(
    level: SlideLevel,
    mpp: float,
    find: Find,
    *,
    background: Pixels,
    tissue: Mask,
    store: NucleusStore | None = None,
) -> Nuclei:
    """Find the nuclei of a slide, tile by tile.

    Parameters
    ----------
    level
        The level to read.
    mpp
        Its µm per pixel.
    find
        The method.
    background
        Colour (3,) of glass.
    tissue
        Where tissue is: an image of the whole slide, as coarse as one likes. Tiles without any are left out.
    store
        Where tiles are kept, and taken from when they are there.

    Returns
    -------
    The nuclei in pixels of the level, in the order of the tiles.
    """
    tiles = plan_tiles(level.shape, mpp, tissue=tissue)
    found = {} if store is None else {number: store.read(number) for number in store.finished()}
    left = [tile for tile in tiles if tile.number not in found]
    windows = _read(level, [seen_from(tile, level.shape, mpp) for tile in left], background)
    progress = Progress(len(tiles), "Nuclei", "tiles", done=len(tiles) - len(left))
    try:
        for tile, nuclei in detect_nuclei(left, windows, level.shape, mpp, find):
            if store is not None:
                store.write(tile.number, nuclei)
            found[tile.number] = nuclei
            progress.advance()
    finally:
        progress.close()
    return join_nuclei([found[tile.number] for tile in tiles])


@own_torch_state()
def estimate_level_mpp(level: SlideLevel, find: Find, *, background: Pixels, tissue: Mask) -> float | None:
    """Estimate µm per pixel of a level from the size of its nuclei; `None` where there are none."""

    def read(top: int, left: int, height: int, width: int) -> Pixels:
        return next(_read(level, [Tile(0, top, left, height, width)], background))

    return estimate_mpp(read, level.shape, find, tissue=tissue)


def hash_level(level: SlideLevel) -> str:
    """Tell an image by its size and what is at some places of it."""
    height, width = level.shape
    x, y = np.meshgrid(*(np.linspace(0, side, N_SAMPLED + 2)[1:-1] for side in (width, height)))
    places = np.column_stack([x.ravel(), y.ravel()])
    return digest(repr(level.shape), *sample_squares(level, places, len(places)))[:16]


@own_torch_state()
def measure_haematoxylin(level: SlideLevel, outlines: npt.NDArray[np.object_], *, background: Pixels) -> Float64s:
    """Measure the mean optical density of haematoxylin at places all over each outline; NaN for those off the image.

    Parameters
    ----------
    level
        The level to read.
    outlines
        Polygons (n) in pixels of the level.
    background
        Colour (3,) of glass.
    """
    sums, numbers = np.zeros(len(outlines)), np.zeros(len(outlines))
    tiles = cut_tiles(level.shape, WINDOW_PX)
    per_row = -(-level.shape[1] // WINDOW_PX)
    columns, rows = (shapely.get_coordinates(shapely.centroid(outlines)) // WINDOW_PX).astype(int).T
    there = (rows >= 0) & (columns >= 0) & (columns < per_row) & (rows < -(-level.shape[0] // WINDOW_PX))
    home = np.where(there, rows * per_row + columns, -1)
    order = np.argsort(home, kind="stable")
    starts = np.searchsorted(home[order], np.arange(len(tiles) + 1))
    used = [tile for tile in tiles if starts[tile.number] < starts[tile.number + 1]]
    for tile, pixels in zip(used, _read(level, used, background), strict=True):
        here = order[starts[tile.number] : starts[tile.number + 1]]
        places, owner = sample_places(outlines[here])
        x, y = np.floor(places - (tile.left, tile.top)).astype(int).T
        inside = (x >= 0) & (x < tile.width) & (y >= 0) & (y < tile.height)
        density = -np.log(np.maximum(pixels[y[inside], x[inside]], DARKEST) / 255)
        sums[here] += np.bincount(owner[inside], density @ hed_from_rgb[:, 0], len(here))
        numbers[here] += np.bincount(owner[inside], minlength=len(here))
    means: Float64s = np.divide(sums, numbers, out=np.full(len(outlines), np.nan), where=numbers > 0)
    return means


def _read(level: SlideLevel, tiles: Sequence[Tile], background: Pixels) -> Iterator[Pixels]:
    """Yield the pixels of tiles, each in memory of its own."""
    windows = [Window(tile.left, tile.top, tile.width, tile.height, 0, 0) for tile in tiles]
    for window in read_windows(level, windows, background):
        yield window.copy()
