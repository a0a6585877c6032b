"""One pyramid level of a TIFF as an array that decodes only the tiles under what is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile

from stdistill._formats.slides.level import Level
from stdistill._formats.slides.tiff.colors import Colors
from stdistill._formats.slides.tiff.layout import Plane, planes
from stdistill._formats.slides.tiff.log import silent
from stdistill._formats.slides.tiff.whole import damaged
from stdistill._slide.glass import Color
from stdistill._support.arrays import Pixels
from stdistill._support.reading import NOT_AS_EXPECTED

Segment = tuple[int, Pixels | None]


@dataclass(frozen=True)
class Place:
    """Where an image is: the file, the series that tifffile finds in it, and the image among those of the series."""

    path: Path
    modified_ns: int
    """A file that was written anew in the meantime has another."""
    series: int
    image: int


@dataclass(frozen=True)
class TiffLevel(Level):
    """A level of an image, as RGB (3, height, width).

    It holds no open file, so it can be sent to other processes.
    """

    place: Place
    level: int
    shape: tuple[int, int, int]
    segment: tuple[int, int]
    """Height and width of what is decoded at once, a tile or a strip."""
    colors: Colors
    glass: Color
    """Colour of what is transparent or missing."""
    finer: TiffLevel | None = None
    """The level that shows in more detail what is missing in this one."""

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """Decode a rectangle (height, width, 3) in the calling thread."""
        out = np.empty((bottom - top, right - left, 3), np.uint8)
        if not out.size:
            return out
        height, width = self.segment
        across = -(-self.shape[2] // width)
        numbers = [
            row * across + column
            for row in range(top // height, (bottom - 1) // height + 1)
            for column in range(left // width, (right - 1) // width + 1)
        ]
        for number, samples in self._decode(numbers):
            y, x = number // across * height, number % across * width
            rows = slice(max(top, y), min(bottom, y + height, self.shape[1]))
            columns = slice(max(left, x), min(right, x + width, self.shape[2]))
            inside = out[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            if samples is None:
                inside[:] = self._fill(rows, columns)
            else:
                part = samples[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
                inside[:] = self.colors.to_rgb(part, self.glass)
        return out

    def _decode(self, numbers: list[int]) -> Iterator[Segment]:
        """Yield the samples (height, width, n) of each segment, `None` for one that was left out of the file."""
        parts = [_decode(plane, numbers) for plane in _planes(self.place, self.level, os.getpid())]
        if len(parts) == 1:
            yield from parts[0]
            return
        for same in zip(*(sorted(part, key=lambda one: one[0]) for part in parts), strict=True):
            samples = [one for _, one in same if one is not None]
            yield same[0][0], np.concatenate(samples, axis=-1) if len(samples) == len(same) else None

    def _fill(self, rows: slice, columns: slice) -> Pixels:
        """Return what is seen where there is no tile: the finer level, as scanners leave out coarse tiles, or glass."""
        if self.finer is None:
            return np.array(self.glass, np.uint8)
        from skimage.transform import resize

        fy, fx = np.divide(self.finer.shape[1:], self.shape[1:])
        ends = round(rows.start * fy), round(rows.stop * fy), round(columns.start * fx), round(columns.stop * fx)
        size = rows.stop - rows.start, columns.stop - columns.start
        shrunk = resize(self.finer.read(*ends), size, anti_aliasing=True, preserve_range=True)
        filled: Pixels = np.rint(shrunk).astype(np.uint8)
        return filled


def _decode(plane: Plane, numbers: list[int]) -> Iterator[Segment]:
    page = plane.page
    wanted, offsets, lengths = [], [], []
    for number in numbers:
        at = plane.first_segment + number
        if page.dataoffsets[at] > 0 and page.databytecounts[at] > 0:
            wanted.append(at)
            offsets.append(page.dataoffsets[at])
            lengths.append(page.databytecounts[at])
        else:  # tifffile would take what lies on either side of it for adjacent
            yield number, None
    keyframe = page.keyframe
    handle = page.parent.filehandle
    # Without their numbers: before 2026.1.14 tifffile takes that of a single segment for its place in the lists.
    for data, place in handle.read_segments(offsets, lengths, lock=handle.lock):
        number = wanted[place]
        try:
            samples, *_ = keyframe.decode(data, number, jpegtables=page.jpegtables, jpegheader=keyframe.jpegheader)
        except NOT_AS_EXPECTED as error:
            msg = damaged(Path(handle.path), f"its tile {number} cannot be decoded: {error}")
            raise ValueError(msg) from error
        yield number - plane.first_segment, samples[0]


@contextmanager
def opened(path: Path, modified_ns: int) -> Iterator[tifffile.TiffFile]:
    """Give the open file of all levels, from which no other thread reads meanwhile.

    It is opened once: tifffile's lists of a million strips take 100 MB. One that is not right is not kept. Two threads
    must not look for the series of one file at once either, which `silent` sees to.
    """
    with silent():
        tiff = _open(path, modified_ns, os.getpid())
        with tiff.filehandle.lock, ExitStack() as not_right:
            not_right.callback(_open.cache_clear)
            yield tiff
            not_right.pop_all()


@lru_cache(maxsize=64)
def _planes(place: Place, level: int, process: int) -> list[Plane]:
    """Find a level in the open file, for many threads."""
    try:
        with opened(place.path, place.modified_ns) as tiff:
            found = planes(tiff.series[place.series].levels[level], place.image)
            for plane in found:
                handle = plane.page.parent.filehandle
                handle.open()  # tifffile closes the other files of a series after looking
                handle.set_lock(True)
                with handle.lock:  # what tifffile reads to make its decoder, and keeps, it reads without a lock
                    _ = plane.page.keyframe.decode
            return found
    except NOT_AS_EXPECTED as error:
        raise ValueError(damaged(place.path, error)) from error


@lru_cache(maxsize=16)
def _open(path: Path, modified_ns: int, process: int) -> tifffile.TiffFile:
    """Open a file once.

    A forked process must not share the open file of its parent, whose reading position would be its own.
    """
    tiff = tifffile.TiffFile(path)
    tiff.filehandle.set_lock(True)
    return tiff
