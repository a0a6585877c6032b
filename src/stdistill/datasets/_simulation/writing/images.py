"""Pyramidal OME-TIFF, written strip by strip so that no level is ever in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from stdistill._support.cpus import N_WORKERS, ordered_map

TILE = 512
"""Side of the tiles, pixels; a strip is a row of them."""

Paint = Callable[[int, int, int, int], npt.NDArray[Any]]
"""Paints the tile with the given left, top, width and height."""


def write_pyramid(
    path: Path,
    scratch: Path,
    paint: Paint,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    mpp: float,
    *,
    channel: str,
    **compression: Any,
) -> None:
    """Write an image and its pyramid, each level half as large as the one before.

    Parameters
    ----------
    path
        OME-TIFF to write.
    scratch
        Folder for the levels that are not written yet.
    paint
        Gives the pixels of the largest level.
    shape
        Rows, columns and, for colour, samples of the largest level.
    dtype
        Type of a pixel.
    mpp
        µm per pixel of the largest level.
    channel
        Name of the channel.
    compression
        Further arguments of :meth:`tifffile.TiffWriter.write`.
    """
    shapes = [shape]
    while max(shapes[-1][:2]) > TILE and min(shapes[-1][:2]) >= 4:
        shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2, *shape[2:]))
    levels = [scratch / f"{path.name}.{level}" for level in range(len(shapes))]
    options = {"tile": (TILE, TILE), "dtype": dtype, "maxworkers": N_WORKERS, **compression}
    metadata = {
        "axes": "YXS" if len(shape) == 3 else "YX",
        "PhysicalSizeX": mpp,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": mpp,
        "PhysicalSizeYUnit": "µm",
        "Channel": {"Name": channel},
    }
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for level, level_shape in enumerate(shapes):
            strips = _painted(paint, level_shape, dtype) if level == 0 else _stored(levels[level], level_shape, dtype)
            smaller = levels[level + 1] if level + 1 < len(shapes) else None
            tiff.write(
                _tiles(_keeping_half(strips, smaller)),
                shape=level_shape,
                subifds=len(shapes) - 1 if level == 0 else None,
                subfiletype=0 if level == 0 else 1,
                metadata=metadata if level == 0 else None,
                resolution=(1e4 / mpp / 2**level, 1e4 / mpp / 2**level),
                resolutionunit="CENTIMETER",
                software=None,
                **options,
            )
            levels[level].unlink(missing_ok=True)


def _painted(paint: Paint, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
    """Yield the strips of the largest level, whose tiles are painted side by side."""

    def tile(corner: tuple[int, int]) -> npt.NDArray[Any]:
        top, left = corner
        return paint(left, top, min(TILE, shape[1] - left), min(TILE, shape[0] - top))

    lefts, tops = range(0, shape[1], TILE), range(0, shape[0], TILE)
    tiles = ordered_map(tile, ((top, left) for top in tops for left in lefts))
    for top in tops:
        strip = np.empty((min(TILE, shape[0] - top), *shape[1:]), dtype)
        for left in lefts:
            strip[:, left : left + TILE] = next(tiles)
        yield strip


def _stored(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
    """Yield the strips of a level that was stored while the larger one was written."""
    with path.open("rb") as file:
        for top in range(0, shape[0], TILE):
            height = min(TILE, shape[0] - top)
            count = height * int(np.prod(shape[1:]))
            yield np.fromfile(file, dtype, count).reshape(height, *shape[1:])


def _keeping_half(strips: Iterator[npt.NDArray[Any]], path: Path | None) -> Iterator[npt.NDArray[Any]]:
    """Pass strips on, and store them at half the size."""
    if path is None:
        yield from strips
        return
    with path.open("wb") as file:
        for strip in strips:
            even = strip[: strip.shape[0] // 2 * 2, : strip.shape[1] // 2 * 2]
            total = np.sum([even[i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0, dtype=np.uint32)
            ((total + 2) // 4).astype(strip.dtype).tofile(file)
            yield strip


def _tiles(strips: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """Yield strips tile by tile."""
    for strip in strips:
        for left in range(0, strip.shape[1], TILE):
            yield strip[:, left : left + TILE]
