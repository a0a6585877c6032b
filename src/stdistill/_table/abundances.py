"""How much of each cell type is in a place: an array in ``.obsm``, and the names of the types in the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy.sparse import issparse

from stdistill._support.arrays import Mask
from stdistill._support.checks import check_key
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import check_one_model
from stdistill._table.labels import NICHE_SUFFIX
from stdistill._table.marks.rows import warn_of_edits, write_rows
from stdistill._table.provenance.results import fingerprint, fingerprint_labels, write_fitted
from stdistill._table.records import find_record, write_record

HINT = "Write them with sd.pp.abundances."
CELL2LOCATION = "cell_abundance_w_sf"
"""Ending of the keys of cell2location's frames, and middle of the names of their columns."""


class Abundances(NamedTuple):
    """Of each row, how much there is of each type."""

    values: npt.NDArray[np.float32]
    """(n, types); a row with a NaN is not known."""
    types: list[str]
    known: Mask
    """(n,), the rows without a NaN."""


def read_abundances(adata: AnnData, key: str, argument: str = "key") -> Abundances:
    """Return what stands under a key of ``.obsm``, checked: finite or missing, not negative, a name for each type.

    Raises
    ------
    KeyError
        When there is nothing under the key.
    TypeError
        When it is no array of numbers.
    ValueError
        When the record is of fewer rows or names other types than the columns, or values are of several models,
        infinite or negative.
    """
    check_key(key, adata.obsm.keys(), "abundances in .obsm", argument=argument, hint=HINT)
    stored = adata.obsm[key]
    if isinstance(stored, pd.DataFrame):
        msg = (
            f".obsm[{key!r}] is a DataFrame, whose names may not survive on disk. Make abundances of it with "
            f"sd.pp.abundances(obsm_key={key!r})."
        )
        raise TypeError(msg)
    if issparse(stored) or getattr(stored, "ndim", 0) != 2 or not np.issubdtype(stored.dtype, np.number):
        msg = f".obsm[{key!r}] is a {type(stored).__name__}; expected an array of numbers (n, types). {HINT}"
        raise TypeError(msg)
    check_one_model(adata, key)
    values = np.asarray(stored, dtype=np.float32)
    step, record = find_record(adata, schema.ABUNDANCE_STEPS, key)
    # What several tables say together, as uns_merge="same" leaves it, has no fingerprint, which differs.
    if "fingerprint" in record and adata.n_obs > int(record.get("n_cells", adata.n_obs)):
        msg = (
            f"The table has {adata.n_obs} rows, but its record of .obsm[{key!r}] is of {record['n_cells']}: it was "
            "concatenated with the record of one of several tables, whose types may be others or in another order. "
            'Concatenate with uns_merge="same", or write the abundances anew with sd.pp.abundances.'
        )
        raise ValueError(msg)
    types = [str(name) for name in record.get("types", ())]
    if len(types) != values.shape[1]:
        found = "no record of its types" if step is None else f"a record of {len(types)} types"
        msg = f".obsm[{key!r}] has {values.shape[1]} columns and {found}. {HINT}"
        raise ValueError(msg)
    check_abundances(values, types, f".obsm[{key!r}]")
    warn_of_edits(adata, key)
    _warn_of_other_labels(adata, key, record)
    known: Mask = np.logical_not(np.isnan(values).any(axis=1))
    return Abundances(values, types, known)


def _warn_of_other_labels(adata: AnnData, key: str, record: Mapping[str, Any]) -> None:
    """Warn when cells were counted by other labels than they have now; of a part of the cells it cannot be told."""
    column = record.get("source_key")
    if "labels" not in record or column not in adata.obs or record.get("n_cells") != adata.n_obs:
        return
    if fingerprint_labels(adata, str(column)) != record["labels"]:
        warn(
            f".obsm[{key!r}] counts cells by other labels than those in .obs[{column!r}]: they, or the centres of the "
            "cells, were changed since. Run sd.pp.abundances again, and what was learned from it."
        )


def name_source(adata: AnnData, key: str) -> str:
    """Say what kind of number the record says to stand under a key; frames of the user's own are one kind."""
    step, record = find_record(adata, schema.ABUNDANCE_STEPS, key)
    source, source_key = record.get("source", "obsm"), str(record.get("source_key", ""))
    if step not in (None, "abundances"):
        return f"predictions of sd.tl.{step}"
    if source == "cell_type":
        return "counts of cells"
    return f"cell2location's {source_key}" if source_key.endswith(CELL2LOCATION) else "values of a frame (obsm_key=)"


def abundances_fingerprint(adata: AnnData, key: str) -> str | None:
    """Return the fingerprint that was recorded of abundances."""
    fingerprint: str | None = find_record(adata, schema.ABUNDANCE_STEPS, key)[1].get("fingerprint")
    return fingerprint


def check_taught_abundances(adata: AnnData, key: str, reference_key: str) -> None:
    """Raise when a prediction learned other abundances than those under the key that they had."""
    _, predicted = find_record(adata, schema.ABUNDANCE_STEPS, key)
    taught, found = predicted.get("target"), abundances_fingerprint(adata, reference_key)
    if predicted.get("target_key") == reference_key and None not in (taught, found) and taught != found:
        msg = (
            f".obsm[{key!r}] learned other abundances than those in .obsm[{reference_key!r}]: sd.pp.abundances was run "
            "again since. Run what made it again, sd.tl.decompose or sd.tl.cross_validate, or sd.pp.abundances as it "
            "was run before; abundances of another radius or source can have a key_added of their own."
        )
        raise ValueError(msg)


def check_abundances(values: npt.NDArray[np.floating[Any]], types: Sequence[str], what: str) -> None:
    """Raise when abundances are infinite or negative; NaN is not known."""
    for wrong, word in ((np.isinf(values), "infinite"), (values < 0, "negative")):
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            msg = (
                f"{what} has {wrong.sum()} {word} values, such as {values[row, column]} of {types[column]!r} in row "
                f"{row}. Abundances are counts, densities or shares: 0 or more, and NaN where they are not known."
            )
            raise ValueError(msg)


def write_abundances(
    adata: AnnData,
    step: str,
    key: str,
    values: npt.NDArray[np.floating[Any]],
    types: Sequence[str],
    *,
    spread: npt.NDArray[np.floating[Any]] | None = None,
    fitted: Mask | None = None,
    model: str | None = None,
    **params: Any,
) -> None:
    """Write (n, types) abundances and the record of the step that made them; what stood there before goes.

    Parameters
    ----------
    adata, step, key
        The table, what made them, and where they go.
    values, types
        The abundances, and the name of each column.
    spread
        (n, types), how far the members of a model disagree.
    fitted, model
        (n,), rows that the model was fitted on, and its fingerprint.
    params
        Of the step.
    """
    write_rows(adata, key, values.astype(np.float32))
    of_members = f"{key}{schema.SPREAD_SUFFIX}"
    adata.obsm.pop(of_members, None)
    if spread is not None:
        adata.obsm[of_members] = spread
    write_fitted(adata, key, fitted, model)
    made = {"fingerprint": fingerprint(adata.obsm[key]), **params}
    write_record(adata, step, key_added=key, types=list(types), n_cells=adata.n_obs, **made)


def check_free(adata: AnnData, key: str) -> None:
    """Raise when something else than abundances stands under a `key_added` that they are to be written to."""
    others = [step for step in (*schema.FEATURE_STEPS, *schema.NICHE_STEPS) if step not in schema.ABUNDANCE_STEPS]
    step, _ = find_record(adata, others, key)
    is_niche = f"{key}{NICHE_SUFFIX}" in adata.obs
    if step is not None or is_niche:
        what = "niches" if is_niche else "features"
        msg = f"key_added={key!r} is taken: the table has {what} of that name. Name another key."
        raise ValueError(msg)
