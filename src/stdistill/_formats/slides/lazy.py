"""Levels as dask arrays: chunks of a good size, and small levels where a file has none."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

CHUNK_PX = 1024
"""Side of a chunk: a slide of 100,000² px has 10,000 of them, and one takes 3 MB."""
OVERVIEW_PX = 2048
"""A slide has a level that is no larger than this, its own or one that is computed."""
STEP = 4
"""Pixels of a level per pixel of one that is computed from it."""


class Level(ABC):
    """A level of a slide as an array (3, height, width) uint8, read in rectangles."""

    shape: tuple[int, int, int]
    segment: tuple[int, int]
    """Height and width of what is decoded at once."""
    dtype = np.dtype(np.uint8)
    ndim = 3

    @abstractmethod
    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """Decode a rectangle (height, width, 3)."""

    def __getitem__(self, key: tuple[int | slice, int | slice, int | slice]) -> Pixels:
        """Decode the rectangle around what is asked for, which dask may do with single rows or every fourth of them."""
        channels, *places = key
        bounds: list[int] = []
        inside: list[int | slice] = []
        for place, n in zip(places, self.shape[1:], strict=True):
            wanted = range(n)[place]
            if isinstance(wanted, int):
                bounds += [wanted, wanted + 1]
                inside.append(0)
            else:
                ends = (wanted[0], wanted[-1]) if wanted else (0, -1)
                bounds += [min(ends), max(ends) + 1]
                inside.append(slice(None, None, wanted.step))
        return np.moveaxis(self.read(*bounds), -1, 0)[(channels, *inside)]


@dataclass
class DecodedImage(Level):
    """An image that is decoded as a whole, when its pixels are first asked for, and kept as long as it is used.

    Sent to another process it is decoded there.
    """

    path: Path
    modified_ns: int
    decode: Callable[[Path], Pixels]
    """Returns (height, width, 3)."""
    shape: tuple[int, int, int]
    _pixels: Pixels | None = field(default=None, repr=False)
    segment = (CHUNK_PX, CHUNK_PX)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """Cut a rectangle out."""
        with self._lock:
            if self._pixels is None:
                self._pixels = self.decode(self.path)
        return self._pixels[top:bottom, left:right]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.modified_ns, self.decode, self.shape)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return type(self).__name__, str(self.path), self.modified_ns, self.shape, repr(self.decode)


def as_dask(level: Level) -> Any:
    """Make a dask array (3, height, width) of a level, whose graph is one layer."""
    import dask.array as da

    chunks = (3, *chunk_shape(level.shape[1:], level.segment))
    return da.from_array(level, chunks=chunks, meta=np.empty((0, 0, 0), np.uint8), inline_array=True, fancy=False)


def chunk_shape(shape: tuple[int, ...], segment: tuple[int, int]) -> tuple[int, int]:
    """Height and width of chunks of whole segments: about `CHUNK_PX`², or of as many pixels where segments are wide."""
    height, width = segment
    chunk_width = width * max(1, CHUNK_PX // width)
    chunk_height = height * max(1, CHUNK_PX**2 // chunk_width // height)
    return min(chunk_height, shape[0]), min(chunk_width, shape[1])


def add_small_levels(levels: list[Any]) -> list[Any]:
    """Append levels until one is no larger than `OVERVIEW_PX`, each computed from the one before by averaging."""
    import dask.array as da

    levels = list(levels)
    while max(levels[-1].shape) > OVERVIEW_PX:
        means = da.coarsen(np.mean, levels[-1], {1: STEP, 2: STEP}, trim_excess=True)
        levels.append(da.round(means).astype(np.uint8))
    return levels
