"""Levels as dask arrays, in chunks of a good size."""

from __future__ import annotations

from typing import Any

import numpy as np

from stdistill._formats.slides.level import Level

CHUNK_PX = 1024
"""Side of a chunk: a slide of 100,000² px has 10,000 of them, and one takes 3 MB."""


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
