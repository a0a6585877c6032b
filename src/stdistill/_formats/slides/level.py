"""A level of a slide as an array that is read in rectangles."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stdistill._support.arrays import Pixels

PART_PX = 1024
"""Side of what is decoded at once of an image that has no tiles."""


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
                bounds += [min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1] if wanted else [0, 0]
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
    segment = (PART_PX, PART_PX)

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
