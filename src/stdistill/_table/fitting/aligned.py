"""What tables of tiles hold of H&E and expression: embeddings of an alignment, what it was fitted on, its inputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from anndata import AnnData
from scipy.sparse import csr_matrix, vstack

from stdistill._support.arrays import Mask
from stdistill._support.checks import check_key, check_sparse
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import check_one_model, check_one_mpp
from stdistill._table.marks.rows import warn_of_edits
from stdistill._table.provenance.results import fingerprint, fitted_cells
from stdistill._table.records import find_record, read_record, records_of

Side: TypeAlias = Literal["he", "expression"]
SIDES: tuple[Side, Side] = ("he", "expression")
ALIGN_HINT = "Run sd.tl.align, or sd.tl.predict with its model."


def aligned_key(key: str, side: Side, scale: str | None = None) -> str:
    """Name the embeddings of an alignment in ``.obsm``, all scales or one."""
    return f"X_{key}_{side}" if scale is None else f"X_{key}_{side}_{scale}"


def read_aligned(tiles: AnnData, key: str, side: Side, scale: str | None = None) -> npt.NDArray[np.float32]:
    """Return the embeddings (n, d) of a side, NaN where a tile has none.

    Raises
    ------
    KeyError
        When they are not there.
    TypeError
        When they are no numbers.
    """
    name = aligned_key(key, side, scale)
    hint = ALIGN_HINT
    if side == "expression" and aligned_key(key, "he") in tiles.obsm:
        hint = "The expression side needs cells with the latent that the model was trained on: sd.tl.predict writes it."
    check_key(name, tiles.obsm.keys(), "an embedding of tiles in .obsm", argument="key", hint=hint)
    check_one_model(tiles, key)
    return read_numbers(tiles, name)


def read_numbers(tiles: AnnData, name: str) -> npt.NDArray[Any]:
    """Return an array (n, d) of ``.obsm``, which must hold floating point numbers."""
    values = tiles.obsm[name]
    if getattr(values, "ndim", 0) != 2 or not np.issubdtype(getattr(values, "dtype", object), np.floating):
        msg = f".obsm[{name!r}] is a {type(values).__name__}; expected floating point numbers (n_tiles, d)."
        raise TypeError(msg)
    warn_of_edits(tiles, name)
    return np.asarray(values)


def aligned_mark(tiles: AnnData, key: str) -> str:
    """Tell the embeddings of both sides from others."""
    return fingerprint(*(np.ascontiguousarray(read_aligned(tiles, key, side)) for side in SIDES))


def aligned_scales(tables: Sequence[AnnData], key: str) -> list[str]:
    """Name the scales of which all tables have both sides, where there are several."""
    scales = [
        scale
        for scale in schema.SCALES
        if all(aligned_key(key, side, scale) in table.obsm for table in tables for side in SIDES)
    ]
    return scales if len(scales) > 1 else []


def check_one_alignment(tables: Sequence[AnnData], key: str) -> None:
    """Raise when the embeddings of several tables are of several models, as far as that is recorded."""
    models = {find_record(table, schema.ALIGNMENT_STEPS, key)[1].get("model_sha256") for table in tables} - {None}
    if len(models) > 1:
        msg = (
            f"The embeddings {key!r} of the {len(tables)} tables are of {len(models)} models, and lie in different "
            "spaces. Apply one to all with sd.tl.predict, or fit one to all with sd.tl.align, which takes a list."
        )
        raise ValueError(msg)


def rank_column(key: str, query: Side) -> str:
    """Name the column of ``.obs`` of where the partner of each tile is, looked for from one side."""
    other = SIDES[1 - SIDES.index(query)]
    return f"{key}_rank_{query}_to_{other}"


def training_tiles(tiles: AnnData, keys: Sequence[str]) -> Mask:
    """Return the tiles of the training: those of the split, without one those that an alignment was fitted on."""
    if schema.SPLIT in tiles.obs:
        return np.asarray(tiles.obs[schema.SPLIT] == schema.TRAIN)
    return fitted_tiles(tiles, keys)


def held_out_tiles(tiles: AnnData, keys: Sequence[str]) -> Mask:
    """Return the tiles to test on: those that are for it, without a split those that no alignment was fitted on.

    Raises
    ------
    ValueError
        When an alignment was fitted on some that are for testing.
    """
    fitted = fitted_tiles(tiles, keys)
    test = (
        np.asarray(tiles.obs[schema.SPLIT] == schema.TEST) if schema.SPLIT in tiles.obs else np.zeros(len(fitted), bool)
    )
    if (seen := test & fitted).any():
        names = ", ".join(repr(key) for key in keys if (test & fitted_cells(tiles, key)).any())
        msg = (
            f"{seen.sum()} of the {test.sum()} tiles that are {schema.TEST!r} in .obs[{schema.SPLIT!r}] had a part in "
            f"fitting {names}: they are no test. Run sd.tl.align again, which leaves them out."
        )
        raise ValueError(msg)
    return test if test.any() else ~fitted


def fitted_tiles(tiles: AnnData, keys: Sequence[str]) -> Mask:
    """Return the tiles that any of some alignments was fitted on."""
    fitted: Mask = np.any([np.zeros(tiles.n_obs, dtype=bool), *(fitted_cells(tiles, key) for key in keys)], axis=0)
    return fitted


def feature_prefixes(tables: Sequence[AnnData]) -> list[str]:
    """Name the frozen features that all tables have at some scale: the `key_added` of sd.pp.embed_tiles."""
    recorded = [str(record.get("key_added")) for _, record in records_of(tables[0], ["embed_tiles"])]
    return [prefix for prefix in dict.fromkeys([schema.HE_FEATURES, *recorded]) if feature_keys(tables, prefix)]


def aligned_features(tables: Sequence[AnnData], key: str) -> str | None:
    """Name the frozen features that an alignment was fitted to, without a record the first that there are."""
    recorded = [find_record(table, schema.ALIGNMENT_STEPS, key)[1].get("he_rep") for table in tables]
    prefixes = [str(name) for name in recorded if name is not None] + feature_prefixes(tables)
    return next((prefix for prefix in prefixes if feature_keys(tables, prefix)), None)


def warn_of_other_tile_features(tables: Sequence[AnnData], key: str, prefix: str) -> None:
    """Warn when the features that an alignment is compared on are not those that it was fitted to."""
    for table in tables:
        record = find_record(table, schema.ALIGNMENT_STEPS, key)[1]
        fitted_to, found = record.get("features"), read_record(table, "embed_tiles", prefix).get("fingerprint")
        if record.get("he_rep") == prefix and None not in (fitted_to, found) and fitted_to != found:
            warn(
                f"The features {prefix!r} of the tiles were computed again since the alignment {key!r}, which is of "
                "those of before: what is fitted to them is no baseline of it. Run sd.tl.align again, or sd.tl.predict."
            )
            return


def feature_keys(tables: Sequence[AnnData], prefix: str) -> list[str]:
    """Name the features of each scale that all tables have."""
    keys = [f"{prefix}_{scale}" for scale in schema.SCALES]
    return [key for key in keys if all(key in table.obsm for table in tables)]


def alignments(tiles: AnnData) -> list[str]:
    """Name the alignments of which there are embeddings of the H&E."""
    names = (re.fullmatch(r"X_(.+)_he", str(key)) for key in tiles.obsm)
    return [name[1] for name in names if name]


def read_features(tables: Sequence[AnnData], keys: Sequence[str]) -> npt.NDArray[Any]:
    """Return features (n, d) of all tables, one after the other, those under several keys side by side."""
    for table in tables:
        for key in keys:
            check_one_model(table, key)
            check_one_mpp(table, key)
    parts = [np.hstack([read_numbers(table, key) for key in keys]) for table in tables]
    check_widths([part.shape[1] for part in parts], " and ".join(f".obsm[{key!r}]" for key in keys))
    return np.concatenate(parts)


def check_widths(widths: Sequence[int], what: str) -> None:
    """Raise unless arrays of several tables are equally wide."""
    if len(set(widths)) > 1:
        msg = f"{what} of the tables have {list(widths)} columns; expected the same number in all."
        raise ValueError(msg)


def read_counts(tables: Sequence[AnnData]) -> tuple[csr_matrix, list[str]]:
    """Return summed counts (n, genes) of the tiles of all tables, of the genes that these have in common, and names.

    Raises
    ------
    ValueError
        When there are none in common, a name occurs twice, or what is there are no counts.
    """
    for number, table in enumerate(tables):
        if not table.var_names.is_unique:
            msg = f"Genes of table {number} have the same name: make names unique with .var_names_make_unique()."
            raise ValueError(msg)
    genes = [gene for gene in tables[0].var_names if all(gene in table.var_names for table in tables[1:])]
    if not genes:
        found = [table.n_vars for table in tables]
        msg = (
            f"The tables of tiles have no genes in common (their numbers: {found}). Expression of tiles is what their "
            "cells express: lay them over a table of cells with sd.pp.tiles."
        )
        raise ValueError(msg)
    for table in tables:
        check_sparse(table.X, ".X of the tiles", "Lay them again with sd.pp.tiles.")
    counts = csr_matrix(vstack([csr_matrix(table[:, genes].X) for table in tables]))
    if not np.isfinite(counts.data).all() or (counts.data < 0).any():
        msg = ".X of the tiles holds negative values or NaN; expected counts, which sd.pp.tiles sums over their cells."
        raise ValueError(msg)
    if (counts.data != np.floor(counts.data)).any():
        warn(
            ".X of the tiles holds fractions, which are no counts: it was normalised or log-transformed since they "
            "were laid, as by sc.pp.log1p, or .X of the cells was. Here it is log-transformed again. Put raw counts "
            "into .X of the cells, and run sd.pp.tiles again."
        )
    return counts, genes
