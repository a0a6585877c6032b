"""A Xenium output folder: what is in it, and its table of cells."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import zarr

from stdistill._formats.text import open_text, read_csv
from stdistill._support.checks import check_finite, some
from stdistill._support.reading import find_visible, reading
from stdistill._support.warn import warn

if TYPE_CHECKING:
    from anndata import AnnData

SPECS = "experiment.xenium"
MATRIX = "cell_feature_matrix.h5"
MEX = "cell_feature_matrix"
"""The folder that holds the same as `MATRIX`, in three files of text."""
MEX_FILE = "file compressed by gzip, as 10x writes it,"
CELLS = ("cells.parquet", "cells.csv.gz", "cells.csv")
NO_MATRIX = "is no matrix in 10x's format, or not whole"
MATRIX_PARTS = (
    "barcodes",
    "data",
    "indices",
    "indptr",
    "shape",
    "features/id",
    "features/name",
    "features/feature_type",
)
COUNTS_AT_ONCE = 2**24
"""So many are looked at: those of a large slide take gigabytes."""
NUMBERS = ("x_centroid", "y_centroid", "cell_area")
"""Columns of the table of cells that are calculated with, in µm and µm²."""
MASKS = "cells.zarr.zip"
PIXEL_SIZE_UM = 0.2125
"""µm per pixel of the morphology image of every Xenium slide so far."""
POSSIBLE_SIZES_UM = (0.01, 10.0)
"""Least and most µm per pixel that a file may state."""


@dataclass(frozen=True)
class XeniumBundle:
    """A Xenium output folder, or the part of one that people deposit."""

    path: Path
    matrix: Path
    """The HDF5 file, or the folder in MEX format where there is only that."""
    cells: Path
    xoa_version: str | None
    """``None`` when it is not stated or cannot be parsed."""
    pixel_size: float
    """µm per pixel of the morphology image."""
    is_whole: bool
    """Whether it has what :func:`spatialdata_io.xenium` needs."""


def open_bundle(path: str | Path) -> XeniumBundle:
    """Look into a Xenium folder; say what is missing when it is none.

    Raises
    ------
    FileNotFoundError
        When the folder, the matrix or the table of cells is not there.
    ValueError
        When ``experiment.xenium`` is no JSON or has no usable pixel size.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        found = f"{path} is a file, and no Xenium folder" if path.is_file() else f"There is no Xenium folder {path}"
        inside = f": give the folder, {path.parent}" if path.is_file() else ""
        msg = f"{found}; expected the unpacked output folder (often named outs){inside}."
        raise FileNotFoundError(msg)
    matrix, cells = _find(path, MATRIX, MEX), _find(path, *CELLS)
    if matrix is None or cells is None:
        raise FileNotFoundError(_what_is_missing(path, matrix, cells))
    specs = _read_specs(path)
    bundle = XeniumBundle(
        path=path,
        matrix=matrix,
        cells=cells,
        xoa_version=_parse_version(specs) if specs is not None else None,
        pixel_size=_parse_pixel_size(specs) if specs is not None else PIXEL_SIZE_UM,
        # Without any version spatialdata-io does not start.
        is_whole=specs is not None
        and isinstance(_stated_version(specs), str)
        and all((path / name).is_file() for name in (MASKS, MATRIX, CELLS[0])),
    )
    if specs is None:
        warn(
            f"{path.name} has no {SPECS}: the table is read from {matrix.name} and {cells.name} alone, and the "
            f"morphology image is taken to have {PIXEL_SIZE_UM} µm per pixel, as on every Xenium slide so far."
        )
    return bundle


def read_cells(bundle: XeniumBundle) -> pd.DataFrame:
    """Read the table of cells, one row per cell of the matrix and in its order, and check it."""
    complaint = "is no table of cells"
    if bundle.cells.suffix == ".parquet":
        with reading(bundle.cells, complaint):
            cells: pd.DataFrame = pd.read_parquet(bundle.cells)
    else:
        cells = read_csv(bundle.cells, complaint)
    absent = {"cell_id", "x_centroid", "y_centroid"} - set(cells.columns)
    if absent:
        msg = f"{bundle.cells.name} has no column {sorted(absent)}; it has {list(cells.columns)}."
        raise ValueError(msg)
    for name in cells.columns.intersection(list(NUMBERS)):
        cells[name] = _as_numbers(cells[name], bundle.cells)
    texts = cells.select_dtypes("object")
    nested = [name for name in texts if texts[name].map(pd.api.types.is_list_like).any()]
    if nested:
        msg = f"{bundle.cells.name} holds lists or records in {nested}; expected a number or a text for each cell."
        raise ValueError(msg)
    cells.index = _as_str(cells["cell_id"])
    barcodes = _read_barcodes(bundle.matrix)
    _check_ids(barcodes, cells.index, bundle)
    cells = cells.loc[barcodes]
    advice = f"Leave them out of {bundle.cells.name} and {bundle.matrix.name}, or segment the slide again."
    check_finite(cells[["x_centroid", "y_centroid"]].to_numpy(np.float64), cells.index.to_numpy(), advice)
    return cells


def read_matrix(bundle: XeniumBundle) -> AnnData:
    """Read the counts of the genes."""
    import scanpy as sc

    if bundle.matrix.is_dir():
        with reading(bundle.matrix / "matrix.mtx.gz", NO_MATRIX, missing=MEX_FILE):
            return sc.read_10x_mtx(bundle.matrix, gex_only=True)
    with reading(bundle.matrix, NO_MATRIX):
        return sc.read_10x_h5(bundle.matrix, gex_only=True)


def find_masks_fault(bundle: XeniumBundle) -> str | None:
    """Say what is wrong with the masks; ``xeniumranger import-segmentation`` leaves out one of two polygon sets."""
    path = bundle.path / MASKS
    try:
        with reading(path, "cannot be opened"), zarr.storage.ZipStore(path, mode="r") as store:
            held = zarr.open_group(store, mode="r")
            sets = sorted(held.require_group("polygon_sets").group_keys()) if "polygon_sets" in held else None
    except (OSError, ValueError) as error:
        return str(error).rstrip(".")
    if sets is None or sets == ["0", "1"]:
        return None
    return f"{path.name} holds the polygon sets {sets}; expected '0', of nuclei, and '1', of cells"


def check_tables(bundle: XeniumBundle, names: list[str]) -> None:
    """Raise unless the tables of these names are there and whole."""
    for name in names:
        path = bundle.path / f"{name}.parquet"
        with reading(path, f"is no table of {name.replace('_', ' ')}"):
            pq.read_metadata(path)


def _read_barcodes(matrix: Path) -> pd.Index:
    if matrix.is_dir():
        with open_text(matrix / "barcodes.tsv.gz", NO_MATRIX, missing=MEX_FILE) as text:
            return pd.Index(text.read().split(), dtype=object)
    with reading(matrix, NO_MATRIX), h5py.File(matrix, "r") as file:
        missing = [name for name in MATRIX_PARTS if f"matrix/{name}" not in file]
        if missing:
            msg = f"it has no matrix/{' and no matrix/'.join(missing)}"
            raise ValueError(msg)
        _check_counts(file["matrix"])
        barcodes = pd.Series(file["matrix/barcodes"][:])
    return _as_str(barcodes)


def _check_counts(matrix: h5py.Group) -> None:
    """Raise where counts are of genes or cells that are not there: by such scipy reads anywhere in memory."""
    n_genes, n_cells = (int(n) for n in matrix["shape"][:])
    starts, genes = matrix["indptr"][:].astype(np.int64), matrix["indices"]
    if len(starts) != n_cells + 1 or starts[0] or starts[-1] != len(genes) or (np.diff(starts) < 0).any():
        msg = f"its matrix/indptr does not divide {len(genes)} counts among {n_cells} cells"
        raise ValueError(msg)
    if len(matrix["data"]) != len(genes):
        msg = f"it has {len(matrix['data'])} counts of {len(genes)} genes"
        raise ValueError(msg)
    for first in range(0, len(genes), COUNTS_AT_ONCE):
        piece = genes[first : first + COUNTS_AT_ONCE]
        if piece.min() < 0 or piece.max() >= n_genes:
            msg = f"its matrix/indices name genes beyond the {n_genes} that it has"
            raise ValueError(msg)


def _find(path: Path, *names: str) -> Path | None:
    """Find the first of `names` in the folder; GEO puts the sample's name before it."""
    for name in names:
        found = [path / name] if (path / name).exists() else find_visible(path, f"*[_.-]{name}")
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            msg = f"{path} holds several samples ({[f.name for f in found]}): give each its own folder."
            raise ValueError(msg)
    return None


def _what_is_missing(path: Path, matrix: Path | None, cells: Path | None) -> str:
    missing = [name for name, file in ((MATRIX, matrix), (" or ".join(CELLS[:2]), cells)) if file is None]
    inside = [p.name + "/" * p.is_dir() for p in find_visible(path, "*")]
    nested = sorted(p.parent for p in path.glob(f"*/{SPECS}"))
    packed = find_visible(path, f"*{MEX}.tar.gz") if matrix is None else []
    if nested:
        advice = f"The bundle seems to be {nested[0]}."
    elif packed:
        advice = f"{packed[0].name} holds the matrix: unpack it there ('tar -xzf'), and its folder {MEX} is read."
    else:
        advice = "Unpack the whole Xenium output folder (outs.zip), or put the matrix and the table of cells there."
    shown = some(inside, 10) or "nothing"
    return f"{path} is no Xenium folder: it has no {' and no '.join(missing)}. It holds: {shown}. {advice}"


def _read_specs(path: Path) -> dict[str, Any] | None:
    if not (path / SPECS).is_file():
        return None
    with open_text(path / SPECS, "is no JSON", advice="copy it again from the instrument's output") as text:
        specs = json.load(text)
    if not isinstance(specs, dict):
        msg = f"{path / SPECS} holds a {type(specs).__name__}, expected a JSON object."
        raise ValueError(msg)
    return specs


def _stated_version(specs: dict[str, Any]) -> Any:
    """Find what is said of the software that wrote the folder: Xenium Ranger where it ran again, else XOA."""
    return (specs.get("xenium_ranger") or {}).get("version") or specs.get("analysis_sw_version")


def _parse_version(specs: dict[str, Any]) -> str | None:
    match = re.match(r"[xX]enium-(\d+\.\d+\.\d+)", str(_stated_version(specs)))
    return match[1] if match else None


def _parse_pixel_size(specs: dict[str, Any]) -> float:
    size = specs.get("pixel_size")
    least, most = POSSIBLE_SIZES_UM
    if isinstance(size, int | float) and least <= size <= most:
        return float(size)
    msg = f"{SPECS} states pixel_size {size!r}; expected µm per pixel ({PIXEL_SIZE_UM} on every slide so far)."
    raise ValueError(msg)


def _as_numbers(column: pd.Series, path: Path) -> pd.Series:
    """Return a column of numbers, or say what it holds."""
    numbers = pd.to_numeric(column, errors="coerce") if column.dtype.kind not in "mM" else column
    odd = column[numbers.isna() & column.notna()]
    if len(odd) or numbers.dtype.kind not in "iuf":
        found = repr(odd.iloc[0]) if len(odd) else str(column.dtype)
        msg = f"{path.name} holds {found} in its column {column.name!r}; expected numbers. Copy it again."
        raise ValueError(msg)
    return numbers


def _as_str(ids: pd.Series) -> pd.Index:
    """Ids as strings; they are integers before XOA 1.3, and bytes in some files."""
    is_bytes = len(ids) > 0 and isinstance(ids.iloc[0], bytes)
    return pd.Index(ids.str.decode("utf-8") if is_bytes else ids.astype(str), dtype=object)


def _check_ids(barcodes: pd.Index, cell_ids: pd.Index, bundle: XeniumBundle) -> None:
    names = f"{bundle.matrix.name} ({len(barcodes)} cells) and {bundle.cells.name} ({len(cell_ids)} cells)"
    if not len(barcodes) or not len(cell_ids):
        msg = f"There are no cells in {names}. Was the run segmented, and copied whole?"
        raise ValueError(msg)
    if cell_ids.has_duplicates:
        msg = f"{bundle.cells.name} names {cell_ids.duplicated().sum()} cells twice; ids must be unique."
        raise ValueError(msg)
    if barcodes.equals(cell_ids):
        return
    shared = int(cell_ids.isin(barcodes).sum())
    same_set = shared == len(barcodes) == len(cell_ids)
    if same_set and not bundle.is_whole:
        return
    how = "are in another order" if same_set else f"do not match: {shared} are in both"
    msg = (
        f"The cell ids of {names} {how}. Examples: {barcodes[:2].tolist()} and {cell_ids[:2].tolist()}. "
        "The files seem to come from different runs or segmentations: copy them from one."
    )
    raise ValueError(msg)
