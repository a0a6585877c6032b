"""What a result stands on: the cells that were fitted, the graph, the features, the teacher; written and read back.

A step that makes something writes a fingerprint of it to its record. A step that fits names in its record the
fingerprints of what it stands on, and writes a column of the cells that it, or what it stands on, was fitted on. Both
survive subsetting, shuffling and writing, and concatenation drops at most the records.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._support.arrays import Mask
from stdistill._support.files import digest
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import get_centers
from stdistill._table.graph import graph_fingerprint
from stdistill._table.labels import NICHE_SUFFIX
from stdistill._table.records import find_record, read_record, records_of


def fingerprint(*parts: str | npt.NDArray[Any]) -> str:
    """Tell what was made from what would be made otherwise."""
    return digest(*parts)[:16]


def write_fitted(adata: AnnData, key: str, cells: Mask | None, model: str | None = None) -> None:
    """Write which cells the result under a key was fitted on, and the fingerprint of what made it; `None`: not known.

    Both are columns, which stay with the cells where tables meet and their records are dropped.
    """
    columns = {
        f"{key}{schema.FITTED_SUFFIX}": None if cells is None else np.asarray(cells, dtype=bool),
        f"{key}{schema.MODEL_SUFFIX}": None if model is None else pd.Categorical([model[:16]]).repeat(adata.n_obs),
    }
    for column, values in columns.items():
        if values is not None:
            adata.obs[column] = values
        elif column in adata.obs:
            del adata.obs[column]


def kind_of_features(encoder: str, revision: str, crop_px: int, stain: str | None, context: float | None) -> str:
    """Tell H&E features of an encoder with its weights, of crops of a side, a stain and a context, from all others."""
    return fingerprint(encoder, revision, str(crop_px), str(stain), str(context))


def write_kind(adata: AnnData, key: str, kind: str, mpp: float) -> None:
    """Write by which encoder, crops and stain the features under a key were computed, and at how many µm per pixel.

    Both are columns, which stay with the cells where tables of other features meet and their records are dropped.
    """
    adata.obs[f"{key}{schema.MODEL_SUFFIX}"] = pd.Categorical([kind]).repeat(adata.n_obs)
    adata.obs[f"{key}{schema.MPP_SUFFIX}"] = np.full(adata.n_obs, mpp, dtype=np.float32)


def fitted_cells(adata: AnnData, key: str) -> Mask:
    """Tell which cells the result under a key was fitted on, as far as it is known."""
    column = f"{key}{schema.FITTED_SUFFIX}"
    if column not in adata.obs:
        return np.zeros(adata.n_obs, dtype=bool)
    _warn_of_missing_cells(adata, key)
    words = set(map(str, adata.obs[column].dropna().unique())) - {"True", "False"}
    if words:
        msg = f".obs[{column!r}] holds {sorted(words)[:5]}; expected True and False, for cells that were fitted on."
        raise TypeError(msg)
    if not pd.api.types.is_bool_dtype(adata.obs[column].dtype):  # text, as a CSV has it, or missing where tables met
        return np.asarray(adata.obs[column].astype(str) == "True")
    known: Mask = (adata.obs[column] == True).fillna(False).to_numpy(dtype=bool)  # noqa: E712 (missing where tables without it were added)
    return known


def _warn_of_missing_cells(adata: AnnData, key: str) -> None:
    """Warn of cells that have a result of which nobody says whether it was fitted on them, as where tables met."""
    column, niches = f"{key}{schema.FITTED_SUFFIX}", f"{key}{NICHE_SUFFIX}"
    missing = adata.obs[column].isna()
    if niches in adata.obs:
        missing &= adata.obs[niches].notna()
    if missing.any():
        warn(
            f".obs[{column!r}] is missing for {missing.sum()} cells: whether {key!r} was fitted on them is not known, "
            "and they count as cells that it was not. Tables that are concatenated need the column each; fill it in: "
            f"adata.obs[{column!r}] = adata.obs[{column!r}].fillna(True), or False where you know it."
        )


def stands_on(adata: AnnData, use_rep: str, *, graph: bool, teacher_key: str | None = None) -> dict[str, Any]:
    """Return what the record of a step says of its input; `None` for what is not known, or is not used."""
    _, record = find_record(adata, schema.FEATURE_STEPS, use_rep)
    return {
        "features": record.get("fingerprint"),
        "graph": graph_fingerprint(adata) if graph else None,
        "crop_um": record.get("crop_um"),
        **({} if teacher_key is None else {"teacher": teacher_of(adata, teacher_key)}),
    }


def teacher_of(adata: AnnData, teacher_key: str) -> str | None:
    """Return the fingerprint of a teacher, or of labels that were set by hand, whatever the order of the cells."""
    _, step, record = result_of(adata, teacher_key)
    if step is not None or teacher_key not in adata.obs:
        return record.get("fingerprint")
    return fingerprint_labels(adata, teacher_key)


def fingerprint_labels(adata: AnnData, key: str) -> str:
    """Tell the labels in a column from others, whatever the order of the cells."""
    labels = adata.obs[key].astype(object).map(str, na_action="ignore").fillna("").to_numpy(dtype=str)
    order = np.lexsort((labels, *get_centers(adata).T))
    return fingerprint(labels[order])


def add_inherited(adata: AnnData, cells: Mask, use_rep: str, teacher_key: str | None = None) -> Mask:
    """Add to the cells that something is fitted on those that its features and its teacher were fitted on.

    It holds then whatever becomes of these. A latent that was fitted to all cells, when there was no split, adds none:
    it is warned of, and would leave nothing to test on.
    """
    if not saw_all_cells(adata, use_rep):
        cells = cells | fitted_cells(adata, use_rep)
    if teacher_key is not None:
        cells = cells | fitted_cells(adata, result_of(adata, teacher_key)[0])
    return cells


def saw_all_cells(adata: AnnData, use_rep: str) -> bool:
    """Whether the expression latent was fitted without any split, to all cells."""
    record = read_record(adata, "embed_expression", use_rep)
    applied = "model" in record and not fitted_cells(adata, use_rep).all()
    return bool(record) and "split_key" not in record and not applied


def fitted_here(adata: AnnData, model_sha256: str) -> tuple[Mask | None, str | None]:
    """Return the cells that a model was fitted on, and the fingerprint of its teacher, if it was fitted to this table.

    A model that was fitted elsewhere has seen none of these cells, so far as the table can tell.
    """
    for _, record in records_of(adata, ["distill", "nolan", "decompose"]):
        key = str(record.get("key_added"))
        if record.get("model_sha256") == model_sha256 and f"{key}{schema.FITTED_SUFFIX}" in adata.obs:
            return fitted_cells(adata, key), record.get("teacher")
    return None, None


def fitted_unrecorded(adata: AnnData, key: str) -> Mask | None:
    """Return the cells that what stands under a key was fitted on, where tables met and their records were dropped.

    A model that writes there again may be the one that was fitted on them.
    """
    if f"{key}{schema.FITTED_SUFFIX}" in adata.obs and not result_of(adata, key)[2]:
        return fitted_cells(adata, key)
    return None


def result_of(adata: AnnData, column: str) -> tuple[str, str | None, dict[str, Any]]:
    """Return the prefix that a column of niches goes by, the step that wrote it and its record, if any."""
    prefix = column.removesuffix(NICHE_SUFFIX)
    return prefix, *find_record(adata, schema.NICHE_STEPS, prefix)
