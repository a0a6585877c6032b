"""What a step wrote to a table, as a file of its own: the slide itself is not written again after each step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix

from stdistill._support.checks import READ_AGAIN, check_sparse
from stdistill._support.reading import reading
from stdistill._table import schema
from stdistill._table.checks import get_split
from stdistill._table.graph import graph_radius, has_graph
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.provenance.results import fingerprint

N_SAMPLED = 1000
"""Rows of features and counts by which they are told from others."""


def save_results(adata: AnnData, key_added: str, path: Path) -> None:
    """Write all that goes by the key or prefix `key_added`, and its record, to an h5ad."""
    records = {
        step: record
        for step, record in adata.uns.get(schema.RECORD, {}).items()
        if str(record.get("key_added")) in (key_added, *_keys_under(key_added, adata.obsm))
    }
    ad.AnnData(
        obs=adata.obs[_keys_under(key_added, adata.obs.columns)],
        obsm={key: adata.obsm[key] for key in _keys_under(key_added, adata.obsm)},
        uns={**{key: adata.uns[key] for key in _keys_under(key_added, adata.uns)}, schema.RECORD: records},
    ).write_h5ad(path)


def load_results(adata: AnnData, path: Path) -> None:
    """Write what `save_results` kept to the table of the same cells."""
    with reading(path, "is not what a step of a run wrote", advice="remove it, and the step is made again"):
        found = ad.read_h5ad(path)
    if not found.obs_names.equals(adata.obs_names):
        msg = f"{path} is of other cells than the table: the folder is of a run on another slide. Name another."
        raise ValueError(msg)
    records = {**adata.uns.get(schema.RECORD, {}), **found.uns.pop(schema.RECORD)}
    kept = adata.obs.drop(columns=adata.obs.columns.intersection(found.obs.columns))
    adata.obs = pd.concat([kept, found.obs], axis=1)
    adata.obsm.update(found.obsm)
    adata.uns.update({**found.uns, schema.RECORD: records})


def describe_slide(adata: AnnData, *, counts: bool) -> dict[str, Any]:
    """Tell a slide from another before anything is computed: by its cells, its H&E, and some rows of the counts."""
    facts = {
        "n_cells": adata.n_obs,
        "cells": fingerprint("\n".join(adata.obs_names), np.asarray(adata.obsm[schema.SPATIAL])),
    }
    slide = read_slide_record(adata)
    if slide is not None and slide.um_to_px is not None:
        facts["he"] = fingerprint(np.array(slide.shape, dtype=float), slide.um_to_px)
        if slide.digest is not None:  # as no earlier version recorded it
            facts["he_file"] = slide.digest
    if counts and adata.X is not None:
        check_sparse(adata.X, ".X", READ_AGAIN)
        rows = csr_matrix(adata.X[_sample(adata.n_obs)])
        facts["counts"] = fingerprint("\n".join(adata.var_names), rows.toarray().astype(np.float64))
    return facts


def describe_inputs(
    adata: AnnData, keys: Iterable[str] = (schema.HE_FEATURES, schema.EXPRESSION_LATENT)
) -> dict[str, Any]:
    """Tell what models are fitted or applied to from the same of another slide; of features some rows are compared."""
    rows = _sample(adata.n_obs)
    split = get_split(adata, schema.SPLIT)
    features = {key: adata.obsm[key] for key in keys}
    return {
        "split": fingerprint("\n".join(map(str, [] if split is None else split))),
        **({"radius_um": graph_radius(adata)} if has_graph(adata) else {}),
        **{key: fingerprint(repr(x.shape), np.asarray(x[rows])) for key, x in features.items()},
    }


def _sample(n_cells: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, n_cells - 1, min(N_SAMPLED, n_cells)).astype(np.int64)


def _keys_under(key_added: str, keys: Iterable[str]) -> list[str]:
    """Choose the keys that begin with the name, those of ``.obsm`` also after an ``X_``."""
    names = (key_added, f"X_{key_added}")
    return [key for key in map(str, keys) if key in names or key.startswith(tuple(f"{name}_" for name in names))]
