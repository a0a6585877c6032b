"""``cells.zarr.zip``: label images of nuclei and cells, written chunk by chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from stdistill._support.cpus import ordered_map
from stdistill._support.jit import njit
from stdistill.datasets._simulation.painting.frames import PIXEL_SIZE_UM
from stdistill.datasets._simulation.tissue.cells import BIN_UM, MAX_REACH_UM, N_ANGLES, spatial_bins
from stdistill.datasets._simulation.writing.tables import Measured, vertices

CELLS_ZARR = "cells.zarr.zip"
_CHUNK = 1024
"""Side of the chunks of a label image, pixels."""
# As in the zarr v2 arrays of real bundles.
_COMPRESSOR: Any = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}
_SEPARATOR: Any = {"name": "v2", "separator": "."}


def write_cells_zarr(folder: Path, measured: Measured) -> None:
    """Write the label images and what maps their labels to cells, in the layout of the XOA version."""
    cells, nuclei = measured.section.cells, measured.section.cells.nuclei
    layout = measured.layout
    store = zarr.storage.ZipStore(folder / CELLS_ZARR, mode="w")
    attributes = {"major_version": layout.major_version, "minor_version": 0, "number_cells": len(cells)}
    root = zarr.create_group(store, zarr_format=2, attributes=attributes)
    if layout.string_ids:
        suffix = np.ones_like(measured.cell_id_prefix)
        _array(root, "cell_id", np.stack([measured.cell_id_prefix, suffix], axis=1))
    else:
        _array(root, "cell_id", measured.cell_id.astype(np.uint32))
    _array(root, "cell_summary", measured.summary.to_numpy(), {"column_names": list(measured.summary.columns)})
    if layout.has_seg_mask_value:
        _array(root, "seg_mask_value", np.arange(1, len(cells) + 1, dtype=np.uint32))
    outlines = ((nuclei.x, nuclei.y, nuclei.outline), (cells.x, cells.y, cells.outline))
    if layout.has_polygon_sets:
        sets = root.create_group("polygon_sets")
        for name, owner, (x, y, outline) in zip("01", (nuclei.cell, np.arange(len(cells))), outlines, strict=True):
            group = sets.create_group(name)
            _array(group, "cell_index", owner.astype(np.uint32))
            _array(group, "num_vertices", np.full(len(x), N_ANGLES + 1, np.int32))
            _array(group, "vertices", vertices(x, y, outline).reshape(len(x), -1))
    masks = root.create_group("masks")
    for name, (x, y, outline) in zip("01", outlines, strict=True):
        _write_labels(masks, name, measured, x, y, outline)
    store.close()


def _array(group: zarr.Group, name: str, data: npt.NDArray[Any], attributes: dict[str, Any] | None = None) -> None:
    """Write a table, in chunks of many rows."""
    array = group.create_array(
        name,
        shape=data.shape,
        chunks=(min(len(data), 1 << 18), *data.shape[1:]),
        dtype=data.dtype,
        compressors=_COMPRESSOR,
        attributes=attributes,
        chunk_key_encoding=_SEPARATOR,
    )
    array[...] = data


def _write_labels(
    group: zarr.Group,
    name: str,
    measured: Measured,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    outline: npt.NDArray[np.float32],
) -> None:
    """Draw and write a label image, chunk by chunk; empty chunks are left out."""
    rows, columns = measured.image_shape
    labels = group.create_array(
        name,
        shape=(rows, columns),
        chunks=(_CHUNK, _CHUNK),
        dtype="uint32",
        compressors=_COMPRESSOR,
        chunk_key_encoding=_SEPARATOR,
    )
    bins = spatial_bins(x, y)

    def draw(corner: tuple[int, int]) -> npt.NDArray[np.uint32]:
        top, left = corner
        pixels = np.zeros((min(_CHUNK, rows - top), min(_CHUNK, columns - left)), np.uint32)
        _rasterise(pixels, (left, top), PIXEL_SIZE_UM, x, y, outline, *bins)
        return pixels

    corners = [(top, left) for top in range(0, rows, _CHUNK) for left in range(0, columns, _CHUNK)]
    for (top, left), pixels in zip(corners, ordered_map(draw, corners), strict=True):
        if pixels.any():
            labels[top : top + _CHUNK, left : left + _CHUNK] = pixels


@njit(nogil=True, cache=True)
def _rasterise(
    pixels: npt.NDArray[np.uint32],
    origin: tuple[int, int],
    pixel_size: float,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    outline: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    columns: int,
) -> None:
    """Fill the pixels whose centres lie in a polygon with the number of the polygon, from 1."""
    rows = (len(starts) - 1) // columns
    cos = np.cos(np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES))
    sin = np.sin(np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES))
    vertex_x, vertex_y, crossings = np.empty(N_ANGLES), np.empty(N_ANGLES), np.empty(N_ANGLES)
    margin = MAX_REACH_UM
    high_x = (origin[0] + pixels.shape[1]) * pixel_size + margin
    high_y = (origin[1] + pixels.shape[0]) * pixel_size + margin
    first = min(max(int((origin[0] * pixel_size - margin) // BIN_UM), 0), columns)
    last = min(max(int(high_x // BIN_UM) + 1, first), columns)
    for i in range(max(int((origin[1] * pixel_size - margin) // BIN_UM), 0), min(int(high_y // BIN_UM) + 1, rows)):
        for k in range(starts[i * columns + first], starts[i * columns + last]):
            polygon = order[k]
            for a in range(N_ANGLES):
                vertex_x[a] = (x[polygon] + outline[polygon, a] * cos[a]) / pixel_size - origin[0]
                vertex_y[a] = (y[polygon] + outline[polygon, a] * sin[a]) / pixel_size - origin[1]
            top = max(int(np.ceil(vertex_y.min() - 0.5)), 0)
            bottom = min(int(np.floor(vertex_y.max() - 0.5)), pixels.shape[0] - 1)
            for row in range(top, bottom + 1):
                centre = row + 0.5
                n = 0
                for a in range(N_ANGLES):
                    b = (a + 1) % N_ANGLES
                    if (vertex_y[a] <= centre) != (vertex_y[b] <= centre):
                        share = (centre - vertex_y[a]) / (vertex_y[b] - vertex_y[a])
                        crossings[n] = vertex_x[a] + share * (vertex_x[b] - vertex_x[a])
                        n += 1
                crossings[:n].sort()
                for pair in range(0, n - 1, 2):
                    start = max(int(np.ceil(crossings[pair] - 0.5)), 0)
                    stop = min(int(np.ceil(crossings[pair + 1] - 0.5)), pixels.shape[1])
                    for column in range(start, stop):
                        pixels[row, column] = polygon + 1
