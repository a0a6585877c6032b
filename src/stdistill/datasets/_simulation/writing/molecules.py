"""Files of molecules: the count matrix and the transcripts, block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from stdistill._support.cpus import ordered_map
from stdistill.datasets._simulation.biology.expression import CONTROLS, GENE_EXPRESSION, Expression, draw_counts
from stdistill.datasets._simulation.tissue.transcripts import place_molecules
from stdistill.datasets._simulation.writing.tables import Measured

_CELLS_PER_BLOCK = 10_000
"""Cells whose molecules are drawn and written at once."""


def write_molecules(
    folder: Path, seed: np.random.SeedSequence, measured: Measured, expression: Expression
) -> dict[str, npt.NDArray[np.int64]]:
    """Draw the molecules of all cells and write them; return how many each cell has by feature type.

    Writes ``cell_feature_matrix.h5`` and ``transcripts.parquet``.
    """
    section = measured.section
    n_cells = len(section.cells)
    names, kinds = _features(section.cell_types.genes)
    area = measured.summary["cell_area"].to_numpy()
    typical = np.bincount(section.cells.cell_type, area) / np.maximum(np.bincount(section.cells.cell_type), 1)
    relative_size = area / typical[section.cells.cell_type]
    starts = range(0, n_cells, _CELLS_PER_BLOCK)

    def draw(item: tuple[int, np.random.SeedSequence]) -> tuple[sparse.csr_matrix, pa.Table]:
        start, block_seed = item
        rng = np.random.default_rng(block_seed)
        part = slice(start, start + _CELLS_PER_BLOCK)
        cells = section.cells
        counts = draw_counts(rng, expression, cells.cell_type[part], cells.niche[part], relative_size[part])
        return counts, place_molecules(rng, cells, start, counts)

    totals = {kind: np.zeros(n_cells, np.int64) for kind in (GENE_EXPRESSION, *CONTROLS)}
    n_molecules = 0
    schema = _transcript_schema(measured)
    # Without the Arrow schema, what is a dictionary here is read as plain strings.
    with (
        h5py.File(folder / "cell_feature_matrix.h5", "w") as h5,
        pq.ParquetWriter(folder / "transcripts.parquet", schema, store_schema=False) as writer,
    ):
        matrix = _MatrixWriter(h5, measured.cell_id, names, kinds)
        for start, (counts, molecules) in zip(
            starts, ordered_map(draw, zip(starts, seed.spawn(len(starts)), strict=True)), strict=True
        ):
            matrix.append(counts)
            for kind, total in totals.items():
                total[start : start + counts.shape[0]] = counts[:, kinds == kind].sum(axis=1).A1
            writer.write_table(_transcript_table(molecules, measured, names, kinds, n_molecules, schema))
            n_molecules += len(molecules["cell"])
        matrix.close()
    return totals


def _features(genes: tuple[str, ...]) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]]:
    """Return names and types of all features, genes first."""
    names = [*genes, *(name for controls in CONTROLS.values() for name in controls)]
    kinds = [GENE_EXPRESSION] * len(genes) + [kind for kind, controls in CONTROLS.items() for _ in controls]
    return np.array(names), np.array(kinds)


class _MatrixWriter:
    """Appends cells to a count matrix in the layout of 10x Genomics, version 3 (features by cells, CSC)."""

    def __init__(
        self, h5: h5py.File, cell_id: npt.NDArray[Any], names: npt.NDArray[np.str_], kinds: npt.NDArray[np.str_]
    ) -> None:
        h5.attrs.update(
            {"filetype": "matrix", "version": 2, "chemistry_description": "Xenium", "library_ids": np.array([b"sim"])}
        )
        group = h5.create_group("matrix")
        group["barcodes"] = cell_id.astype("S")
        group["shape"] = np.array([len(names), len(cell_id)], np.int32)
        features = group.create_group("features")
        # No Ensembl identifiers: these genes are not measured on a genome.
        for key, values in {"id": names, "name": names, "feature_type": kinds}.items():
            features[key] = values.astype("S")
        features["genome"] = np.full(len(names), b"simulated")
        features["_all_tag_keys"] = np.array([b"genome"])
        options: dict[str, Any] = {"shape": (0,), "maxshape": (None,), "chunks": (1 << 18,), "compression": "gzip"}
        self._data = group.create_dataset("data", dtype=np.int32, compression_opts=1, **options)
        self._indices = group.create_dataset("indices", dtype=np.int32, compression_opts=1, **options)
        self._group, self._ends = group, [np.zeros(1, np.int64)]

    def append(self, counts: sparse.csr_matrix) -> None:
        """Add the cells of a cell by feature matrix."""
        before = int(self._ends[-1][-1])
        for dataset, values in ((self._data, counts.data), (self._indices, counts.indices)):
            dataset.resize(before + counts.nnz, axis=0)
            dataset[before:] = values
        self._ends.append(before + counts.indptr[1:].astype(np.int64))

    def close(self) -> None:
        """Write where each cell starts."""
        self._group["indptr"] = np.concatenate(self._ends)


def _transcript_schema(measured: Measured) -> pa.Schema:
    """Return the columns of the table of transcripts, in the layout of the XOA version."""
    ids = pa.dictionary(pa.int32(), pa.string()) if measured.layout.string_ids else pa.int32()
    fields = [
        ("transcript_id", pa.uint64()),
        ("cell_id", ids),
        ("overlaps_nucleus", pa.uint8()),
        ("feature_name", pa.dictionary(pa.int32(), pa.string())),
        ("x_location", pa.float32()),
        ("y_location", pa.float32()),
        ("z_location", pa.float32()),
        ("qv", pa.float32()),
    ]
    if measured.layout.has_polygon_sets:
        fields += [("codeword_index", pa.int32()), ("is_gene", pa.bool_())]
    return pa.schema(fields)


def _transcript_table(
    molecules: dict[str, npt.NDArray[Any]],
    measured: Measured,
    names: npt.NDArray[np.str_],
    kinds: npt.NDArray[np.str_],
    first_id: int,
    schema: pa.Schema,
) -> pa.Table:
    """Make the table of the transcripts of a block, numbered from ``first_id``."""
    cell, feature = molecules["cell"], molecules["feature"]
    columns = {
        **molecules,
        "transcript_id": np.arange(first_id, first_id + len(cell), dtype=np.uint64) + (1 << 48),
        "feature_name": pa.DictionaryArray.from_arrays(feature.astype(np.int32), names),
        "codeword_index": feature.astype(np.int32),
        "is_gene": (kinds == GENE_EXPRESSION)[feature],
    }
    if measured.layout.string_ids:
        first = int(cell[0])
        ids = measured.cell_id[first : int(cell[-1]) + 1]
        columns["cell_id"] = pa.DictionaryArray.from_arrays((cell - first).astype(np.int32), ids)
    else:
        columns["cell_id"] = measured.cell_id[cell]
    return pa.table([pa.array(columns[name]) for name in schema.names], schema=schema)
