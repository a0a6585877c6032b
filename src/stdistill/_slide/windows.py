"""Reads windows of a slide in the background; every chunk of the image is decoded once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import dask
import numpy as np
from dask.optimization import cull

from stdistill._slide.plan import Window, chunks_under
from stdistill._slide.pyramid import SlideLevel
from stdistill._support.arrays import Floats, Pixels
from stdistill._support.cpus import n_cpus
from stdistill._support.files import digest

WINDOWS_AHEAD = 3
"""Windows that are decoded while one is worked on."""

SAMPLE_PX = 1024
"""Side of the squares by which an image is told from another."""
FIXED_PX, FIXED_PER_SIDE = 32, 12
"""Squares by which an image is known again whatever cells are on it: their side, and how many along each of its own."""

Chunk = tuple[int, int]


class _Chunks:
    """The chunks of a level, decoded one at a time.

    The graph is taken from dask once: asking dask for a slice would walk through all chunks of the slide every time,
    of which there are tens of thousands.
    """

    def __init__(self, level: SlideLevel) -> None:
        (pixels,) = dask.optimize(level.pixels)
        self.graph: dict[Any, Any] = dict(pixels.__dask_graph__())
        self.name = pixels.name
        self.starts = [np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int) for sizes in pixels.chunks[1:]]

    def decode(self, chunk: Chunk) -> Pixels:
        """Decode a chunk (height, width, 3)."""
        key = (self.name, 0, *chunk)
        needed, _ = cull(self.graph, [key])
        return np.moveaxis(np.asarray(dask.get(needed, key)), 0, -1)

    def place(self, chunk: Chunk) -> tuple[int, int]:
        """Top and left of a chunk."""
        return int(self.starts[0][chunk[0]]), int(self.starts[1][chunk[1]])


def read_windows(level: SlideLevel, windows: Sequence[Window], background: Pixels) -> Iterator[Pixels]:
    """Yield the pixels (height, width, 3) of one window after the other, what lies off the slide in `background`.

    Decoded chunks are kept until the last window that needs them, which takes about one row of chunks of the slide.
    Memory is used again, since the system takes longer to hand out new pages than to copy pixels into old ones: a
    window stays as it is while the next one is asked for, and no longer.
    """
    chunks = _Chunks(level)
    needed = [list(chunks_under(window, level)) for window in windows]
    last_use = {chunk: number for number, under in enumerate(needed) for chunk in under}
    decoded: dict[Chunk, Future[Pixels]] = {}
    coming: deque[Future[Pixels]] = deque()
    largest = max((window.height * window.width * 3 for window in windows), default=0)
    buffers = [np.empty(largest, dtype=np.uint8) for _ in range(min(WINDOWS_AHEAD + 2, len(windows)))]
    with ThreadPoolExecutor(n_cpus()) as decoders, ThreadPoolExecutor(1) as assembler:

        def schedule(number: int) -> None:
            for chunk in needed[number]:
                if chunk not in decoded:
                    decoded[chunk] = decoders.submit(chunks.decode, chunk)
            parts = {chunk: decoded[chunk] for chunk in needed[number]}
            buffer = buffers[number % len(buffers)]
            coming.append(assembler.submit(_assemble, windows[number], parts, chunks, background, buffer))
            for chunk in needed[number]:
                if last_use[chunk] == number:
                    del decoded[chunk]

        try:
            for number in range(len(windows)):
                while len(coming) <= WINDOWS_AHEAD and number + len(coming) < len(windows):
                    schedule(number + len(coming))
                yield coming.popleft().result()
        finally:  # whoever stops early does not wait for what was scheduled
            for executor in (assembler, decoders):
                executor.shutdown(wait=False, cancel_futures=True)


def sample_squares(level: SlideLevel, places: Floats, n_squares: int) -> Iterator[Pixels]:
    """Read what is around some of the places (n, 2), given as (x, y), evenly spread; however the image is chunked."""
    if not len(places):
        return
    chosen = np.unique(np.linspace(0, len(places) - 1, n_squares).round().astype(int))
    largest = np.maximum(np.array(level.shape[::-1]) - SAMPLE_PX, 0)
    corners = np.clip(places[chosen] - SAMPLE_PX / 2, 0, largest).astype(int)
    windows = [Window(int(x), int(y), SAMPLE_PX, SAMPLE_PX, 0, 0) for x, y in np.unique(corners, axis=0)]
    for pixels in read_windows(level, windows, np.zeros(3, dtype=np.uint8)):
        yield pixels.copy()


def hash_image(level: SlideLevel) -> str | None:
    """Tell an image from others by its size and by what is at places that are the same for all of this size.

    `None` when these show one colour alone, as on glass that a scanner paints white: other images have that, too.
    """
    height, width = level.shape
    fractions = (np.arange(FIXED_PER_SIDE) + 0.5) / FIXED_PER_SIDE
    windows = [
        Window(max(0, int(x * width - FIXED_PX / 2)), max(0, int(y * height - FIXED_PX / 2)), FIXED_PX, FIXED_PX, 0, 0)
        for y in fractions
        for x in fractions
    ]
    squares = np.stack([pixels.copy() for pixels in read_windows(level, windows, np.full(3, 255, dtype=np.uint8))])
    is_plain = bool((squares == squares[0, 0, 0]).all())
    return None if is_plain else digest(repr((height, width)), squares)[:16]


def _assemble(
    window: Window, parts: dict[Chunk, Future[Pixels]], chunks: _Chunks, background: Pixels, buffer: Pixels
) -> Pixels:
    pixels = buffer[: window.height * window.width * 3].reshape(window.height, window.width, 3)
    pixels[:] = np.tile(background, (window.width, 1))  # row by row: pixel by pixel takes as long as decoding
    for chunk, future in parts.items():
        part = future.result()
        top, left = (at - start for at, start in zip(chunks.place(chunk), (window.top, window.left), strict=True))
        rows = slice(max(top, 0), min(top + part.shape[0], window.height))
        columns = slice(max(left, 0), min(left + part.shape[1], window.width))
        pixels[rows, columns] = part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return pixels
