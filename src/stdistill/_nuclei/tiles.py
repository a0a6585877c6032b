"""Nuclei of a slide, tile by tile."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from skimage.measure import label

from stdistill._nuclei.density import NUCLEUS_PX, resized_density
from stdistill._nuclei.methods import Find
from stdistill._nuclei.network import REACH_PX
from stdistill._nuclei.nuclei import Nuclei, measure_nuclei
from stdistill._nuclei.scale import typical_diameter_px
from stdistill._nuclei.windows import Tile, cut_tiles, tissue_share
from stdistill._support.arrays import Mask, Pixels
from stdistill._support.cpus import n_cpus

BLOCK_PX = REACH_PX
"""A slide is divided into blocks of so many pixels of the size that methods work at; tiles are made of whole blocks.

A block is as wide as the reach of the network, so that one block around a tile is all that it can see, and a multiple
of its stride, so that pixels are pooled in the same pairs whatever the tile."""
TILE_BLOCKS = 8
WHITE = 255
"""What is seen beyond the slide, as the network does where its convolutions look past an edge."""


def plan_tiles(shape: tuple[int, int], mpp: float, *, tissue: Mask | None = None) -> list[Tile]:
    """Divide a slide into tiles.

    Parameters
    ----------
    shape
        Height and width of the slide.
    mpp
        µm per pixel.
    tissue
        Where tissue is: an image of the whole slide, as coarse as one likes. Tiles without any are left out.

    Returns
    -------
    The tiles in rows from the top, the same ones whenever they are asked for.
    """
    tiles = cut_tiles(shape, TILE_BLOCKS * _block_px(mpp))
    return tiles if tissue is None else [tile for tile in tiles if tissue_share(tile, tissue, shape) > 0]


def seen_from(tile: Tile, shape: tuple[int, int], mpp: float) -> Tile:
    """Return what can be seen from a tile: it and a block around it, as far as the slide goes."""
    block = _block_px(mpp)
    top, left = max(tile.top - block, 0), max(tile.left - block, 0)
    bottom, right = min(tile.top + tile.height + block, shape[0]), min(tile.left + tile.width + block, shape[1])
    return Tile(tile.number, top, left, bottom - top, right - left)


def detect_nuclei(
    tiles: Sequence[Tile], windows: Iterable[Pixels], shape: tuple[int, int], mpp: float, find: Find
) -> Iterator[tuple[Tile, Nuclei]]:
    """Find the nuclei of a slide, tile by tile.

    A nucleus belongs to the tile that its centroid lies in, and a tile comes with what can be seen around it. So tiles
    give what the whole slide at once would give. As many tiles are worked on side by side as there are CPUs, each by
    one thread.

    Parameters
    ----------
    tiles
        Those of :func:`plan_tiles` to work on. Leave out what was done before to go on from there.
    windows
        RGB (height, width, 3) of what is :func:`seen_from` each tile, in their order. A window is asked for when there
        is a thread to work on it.
    shape
        Height and width of the slide.
    mpp
        µm per pixel.
    find
        The method, of :func:`stdistill._nuclei.methods.load_method`.

    Yields
    ------
    Each tile with its nuclei, in the order of the tiles.
    """
    n_workers, n_threads = n_cpus(), torch.get_num_threads()
    coming: deque[tuple[Tile, Future[Nuclei]]] = deque()
    pool = ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for tile, window in zip(tiles, windows, strict=True):
            seen = seen_from(tile, shape, mpp)
            coming.append((tile, pool.submit(_detect_in, window, seen, tile, mpp, find)))
            if len(coming) > n_workers:
                finished, nuclei = coming.popleft()
                yield finished, nuclei.result()
        while coming:
            finished, nuclei = coming.popleft()
            yield finished, nuclei.result()
    finally:  # whoever stops early does not wait for what was begun
        pool.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(n_threads)  # torch gives threads to come the number that was set last, by any thread


def _detect_in(window: Pixels, seen: Tile, tile: Tile, mpp: float, find: Find) -> Nuclei:
    """Find the nuclei of a tile in the pixels around it."""
    block = _block_px(mpp)
    scale = block / BLOCK_PX  # pixels of the slide per pixel that the method sees: exact, unlike its inverse
    fill = [(0, -side % block) for side in window.shape[:2]]
    whole = np.pad(window, [*fill, (0, 0)], constant_values=WHITE)
    density = resized_density(whole, *(side * BLOCK_PX // block for side in whole.shape[:2]))
    labels = find(density)
    rows, columns = (side * BLOCK_PX // block for side in window.shape[:2])
    labels[rows:], labels[:, columns:] = 0, 0
    # What an edge or a method has cut in two is two nuclei.
    labels = label(labels, connectivity=1).astype(np.int32)
    nuclei = measure_nuclei(labels, density.numpy(), mpp=mpp * scale).placed(scale, seen.left, seen.top)
    places = nuclei.centroids - (tile.left, tile.top)
    return nuclei[np.all((places >= 0) & (places < (tile.width, tile.height)), axis=1)]


def _block_px(mpp: float) -> int:
    """Side of a block in pixels of the slide: a whole number, so that all tiles are scaled on one grid."""
    return max(round(BLOCK_PX * typical_diameter_px(mpp) / NUCLEUS_PX), 1)
