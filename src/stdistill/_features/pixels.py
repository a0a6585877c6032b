"""Pixels of tiles: read once from their slides, in order, and then from a file at random."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from dask.utils import format_bytes
from platformdirs import user_cache_path

from stdistill._features.embedder import BATCH_SIZE_CPU
from stdistill._features.store import reserve_folder
from stdistill._slide.crops import CropCutter
from stdistill._slide.plan import Slide, Window
from stdistill._slide.windows import read_windows
from stdistill._support.arrays import Integers, Interpolation
from stdistill._support.progress import Progress


class TilePixels:
    """Pixels (n, 3, side, side) of tiles, 0 to 255, in a file of which rows are read.

    Nothing of it stays in memory, nor goes along to another process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape: tuple[int, ...] = self._open().shape

    def __getitem__(self, rows: Integers) -> npt.NDArray[np.float32]:
        return np.asarray(self._open()[rows], dtype=np.float32)

    def _open(self) -> Any:
        return np.load(self.path, mmap_mode="r")


@contextmanager
def tile_pixels(
    slides: Sequence[Sequence[Slide]],
    n_tiles: Sequence[int],
    side: int,
    interpolation: Interpolation,
    folder: str | Path | None,
) -> Iterator[TilePixels]:
    """Read tiles, resampled once as features of them are computed, and rounded to whole numbers.

    Parameters
    ----------
    slides
        What is planned to be read for each table of tiles.
    n_tiles
        Rows of each; those that are not planned take no space on disk.
    side
        Of a tile, in pixels.
    interpolation
        How tiles are resampled.
    folder
        Where the file lies until the context ends, in a folder of its own; `None`: the user's cache.

    Raises
    ------
    OSError
        When there is no room for it.
    """
    parent = user_cache_path("stdistill") / "tiles" if folder is None else Path(folder).expanduser()
    n_read = sum(len(slide.plan.order) for own in slides for slide in own)
    with reserve_folder(parent, "pixels", argument="checkpoint_dir") as place:
        place.mkdir(exist_ok=True)  # what a killed run left is written over
        try:
            _check_space(place, n_read * 3 * side**2)
            path = place / "pixels.npy"
            written = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(sum(n_tiles), 3, side, side))
            progress = Progress(n_read, "Reading tiles", "tiles")
            try:
                for own, begin in zip(slides, np.cumsum([0, *n_tiles]), strict=False):
                    for rows, pixels in (piece for slide in own for piece in _read(slide, side, interpolation)):
                        written[begin + rows] = pixels
                        progress.advance(len(rows))
            finally:
                progress.close()
            written.flush()
            del written
            yield TilePixels(path)
        finally:
            shutil.rmtree(place)


def _check_space(folder: Path, size: int) -> None:
    """Raise when the disk has no room for so many bytes: a map of a file would end the process."""
    free = shutil.disk_usage(folder).free
    if size > free:
        msg = (
            f"The pixels of the tiles take {format_bytes(size)} while the encoder learns, and {folder.parent} has "
            f"{format_bytes(free)} left: make room, or name a folder on another disk with checkpoint_dir=."
        )
        raise OSError(msg)


def _read(slide: Slide, side: int, interpolation: Interpolation) -> Iterator[tuple[Integers, npt.NDArray[np.uint8]]]:
    """Yield some tiles after the other: their rows, and their pixels (m, 3, side, side)."""
    plan = slide.plan
    for window, pixels in zip(plan.windows, read_windows(plan.level, plan.windows, slide.background), strict=True):
        cutter = CropCutter(torch.from_numpy(pixels), plan, window)
        for part in _parts(window):
            images = cutter.images(cutter.cut(part), part, side, interpolation)
            rows = plan.order[window.start : window.stop][part]
            yield rows, images.round().to(torch.uint8).numpy()


def _parts(window: Window) -> list[slice]:
    n = window.stop - window.start
    return [slice(start, min(start + BATCH_SIZE_CPU, n)) for start in range(0, n, BATCH_SIZE_CPU)]
