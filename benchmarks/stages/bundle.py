"""Xenium bundles of any size with an H&E: a piece of a simulated slide, mirrored to and fro, cells and pixels alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile
import zarr
from read_crops import TILE, write_slide
from scipy.sparse import csr_matrix
from spatialdata_io.readers.xenium import cell_id_str_from_prefix_suffix_uint32
from stages.inputs import MPP, N_LEVELS

import stdistill as sd

CELLS, MATRIX, MASKS, SPECS = "cells.parquet", "cell_feature_matrix.h5", "cells.zarr.zip", "experiment.xenium"
HE, ALIGNMENT, GROUPS = "simulated_he_image.ome.tif", "simulated_he_imagealignment.csv", "simulated_cell_groups.csv"
CENTER = ["x_centroid", "y_centroid"]


class Layout(NamedTuple):
    """Cells of the large slide, and which cell of the simulated one each of them is."""

    ids: npt.NDArray[np.uint32]
    names: npt.NDArray[np.str_]
    centers_px: npt.NDArray[np.float64]
    source: npt.NDArray[np.int64]


def write_bundle(folder: Path, simulated: Path, n_cells: int, n_simulated: int) -> None:
    """Write what `stdistill run` reads of a bundle: neither molecules, outlines, masks nor DAPI.

    The slide of `n_simulated` cells of which it is made is written to `simulated`, unless it is there.
    """
    if not simulated.exists():
        sd.datasets.simulate_xenium(simulated, n_cells=n_simulated)
    folder.mkdir()
    image, specs = tifffile.imread(simulated / HE, key=0), json.loads((simulated / SPECS).read_text())
    side = min(image.shape[:2]) // 2 // TILE * TILE
    top, left = ((n - side) // 2 for n in image.shape[:2])
    cells = pd.read_parquet(simulated / CELLS)
    alignment = np.loadtxt(simulated / ALIGNMENT, delimiter=",")
    morphology = np.column_stack([cells[CENTER] / specs["pixel_size"], np.ones(len(cells))])
    centers = (morphology @ np.linalg.inv(alignment).T)[:, :2] - [left, top]
    layout = mirror(centers, side, n_cells)

    write_slide(folder / HE, int(layout.centers_px.max()) + 1, image[top:, left:][:side, :side], n_levels=N_LEVELS)
    np.savetxt(folder / ALIGNMENT, np.diag([MPP / specs["pixel_size"]] * 2 + [1]), delimiter=",")
    (folder / SPECS).write_text(json.dumps(specs | {"num_cells": n_cells}))
    cells = cells.iloc[layout.source].assign(cell_id=layout.names)
    cells[CENTER] = layout.centers_px * MPP
    cells.to_parquet(folder / CELLS, index=False)
    write_masks(folder / MASKS, simulated / MASKS, layout)
    write_matrix(folder / MATRIX, simulated / MATRIX, layout)
    groups = pd.read_csv(simulated / GROUPS).set_index("cell_id")
    groups = groups.reindex(pd.read_parquet(simulated / CELLS)["cell_id"]).iloc[layout.source]
    groups.set_axis(pd.Index(layout.names, name="cell_id")).dropna().to_csv(folder / GROUPS)


def mirror(centers: npt.NDArray[np.float64], side: int, n_cells: int) -> Layout:
    """Mirror the cells of a square to and fro, and take those next to a corner."""
    inside = np.flatnonzero(((centers >= 0) & (centers < side)).all(axis=1))
    n_squares = int(np.ceil(np.sqrt(n_cells / len(inside))))
    corners = np.indices((n_squares, n_squares)).reshape(2, -1).T[:, None]
    mirrored = np.where(corners % 2, side - centers[inside], centers[inside])
    places = (corners * side + mirrored).reshape(-1, 2)
    nearest = np.sort(np.argsort(places.max(axis=1))[:n_cells])
    ids = np.column_stack([np.arange(n_cells), np.ones(n_cells)]).astype(np.uint32)
    names = cell_id_str_from_prefix_suffix_uint32(*ids.T)
    return Layout(ids, names, places[nearest], np.tile(inside, n_squares**2)[nearest])


def write_masks(path: Path, simulated: Path, layout: Layout) -> None:
    """Write of the masks what says which cells there are."""
    with (
        zarr.storage.ZipStore(simulated, read_only=True) as old_store,
        zarr.storage.ZipStore(path, mode="w") as new_store,
    ):
        old = zarr.open_group(old_store, mode="r")
        new = zarr.create_group(new_store, zarr_format=2, attributes=dict(old.attrs))
        summary = old["cell_summary"][...][layout.source]
        summary[:, :2] = layout.centers_px * MPP
        new.create_array("cell_summary", data=summary, attributes=dict(old["cell_summary"].attrs))
        new.create_array("cell_id", data=layout.ids)
        for number in "01":
            new.create_array(f"polygon_sets/{number}/cell_index", data=np.arange(len(summary), dtype=np.uint32))


def write_matrix(path: Path, simulated: Path, layout: Layout) -> None:
    """Write the counts, in the layout of 10x Genomics: features by cells, CSC."""
    with h5py.File(simulated) as old, h5py.File(path, "w") as new:
        new.attrs.update(old.attrs)
        n_features, n_cells = old["matrix/shape"][...]
        parts = (old[f"matrix/{name}"][...] for name in ("data", "indices", "indptr"))
        counts = csr_matrix(tuple(parts), shape=(n_cells, n_features))[layout.source]
        matrix = new.create_group("matrix")
        old.copy("matrix/features", matrix)
        matrix["barcodes"] = layout.names.astype("S")
        matrix["shape"] = np.array(counts.shape[::-1], np.int32)
        matrix["indptr"] = counts.indptr.astype(np.int64)
        for name in ("data", "indices"):
            values = getattr(counts, name).astype(np.int32)
            matrix.create_dataset(
                name, data=values, chunks=(1 << 18,) if len(values) > 1 << 18 else True, compression=1
            )
