"""What a step wrote to a table, as a file of its own: the slide itself is not written again after each step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill import _keys
from stdistill._validate import get_split
from stdistill.tl._inputs import graph_radius

N_SAMPLED = 1000
"""Rows of the features by which they are told from others."""


def save_results(adata: AnnData, key_added: str, path: Path) -> None:
    """Write all that goes by the key or prefix `key_added`, and its record, to an h5ad."""
    records = {
        step: record for step, record in adata.uns.get(_keys.RECORD, {}).items() if record.get("key_added") == key_added
    }
    ad.AnnData(
        obs=adata.obs[_of(key_added, adata.obs.columns)],
        obsm={key: adata.obsm[key] for key in _of(key_added, adata.obsm)},
        uns={**{key: adata.uns[key] for key in _of(key_added, adata.uns)}, _keys.RECORD: records},
    ).write_h5ad(path)


def load_results(adata: AnnData, path: Path) -> None:
    """Write what `save_results` kept to the table of the same cells."""
    found = ad.read_h5ad(path)
    if not found.obs_names.equals(adata.obs_names):
        msg = f"{path} is of other cells than the table: remove it, and the step is made again."
        raise ValueError(msg)
    records = {**adata.uns.get(_keys.RECORD, {}), **found.uns.pop(_keys.RECORD)}
    kept = adata.obs.drop(columns=adata.obs.columns.intersection(found.obs.columns))
    adata.obs = pd.concat([kept, found.obs], axis=1)
    adata.obsm.update(found.obsm)
    adata.uns.update({**found.uns, _keys.RECORD: records})


def describe_inputs(
    adata: AnnData, keys: Iterable[str] = (_keys.HE_FEATURES, _keys.EXPRESSION_LATENT)
) -> dict[str, Any]:
    """Tell what models are fitted or applied to from the same of another slide; of features some rows are compared."""
    rows = np.linspace(0, adata.n_obs - 1, min(N_SAMPLED, adata.n_obs)).astype(np.int64)
    split = get_split(adata, _keys.SPLIT)
    features = {key: adata.obsm[key] for key in keys}
    return {
        "n_cells": adata.n_obs,
        "cells": _digest("\n".join(adata.obs_names).encode(), np.asarray(adata.obsm[_keys.SPATIAL]).tobytes()),
        "split": _digest("\n".join(map(str, [] if split is None else split)).encode()),
        "radius_um": graph_radius(adata),
        **{key: _digest(repr(x.shape).encode(), np.asarray(x[rows]).tobytes()) for key, x in features.items()},
    }


def _of(key_added: str, keys: Iterable[str]) -> list[str]:
    return [key for key in map(str, keys) if key == key_added or key.startswith(f"{key_added}_")]


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
