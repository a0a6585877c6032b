"""What principal components are made of: the loadings of genes, by which those of one table are told from others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""By how much loadings may differ that are the same but for rounding and solver; not in sign, which turns features."""


def loadings_key(use_rep: str) -> str:
    """Name the entry of ``.varm`` where scanpy keeps the loadings of components."""
    return "PCs" if use_rep == "X_pca" else use_rep


def find_loadings(table: AnnData, use_rep: str) -> pd.DataFrame | None:
    """Return the loadings (genes, components) of features, of genes of one name each; `None` where there are none."""
    key = loadings_key(use_rep)
    if key not in table.varm:
        return None
    loadings = pd.DataFrame(np.asarray(table.varm[key]), index=table.var_names).iloc[:, : table.obsm[use_rep].shape[1]]
    return loadings[~loadings.index.duplicated(keep=False)]


def describe_loadings(loadings: pd.DataFrame) -> list[dict[str, Any]]:
    """Tell components from others by the gene that leads each, and its loading, as a card can hold them."""
    values = loadings.fillna(0).to_numpy(dtype=np.float64)
    leading = np.abs(values).argmax(axis=0)
    return [
        {"gene": str(loadings.index[row]), "loading": float(values[row, component])}
        for component, row in enumerate(leading)
    ]


def is_described(loadings: pd.DataFrame | None, described: Sequence[dict[str, Any]] | None) -> bool | None:
    """Whether components are those that were described; `None` where no leading gene is in both, and nobody knows."""
    if loadings is None or described is None:
        return None
    expected = {(each["gene"], component): each["loading"] for component, each in enumerate(described)}
    known = [place for place in expected if place[0] in loadings.index and place[1] in loadings.columns]
    if not known:
        return None
    return is_same([loadings.at[place] for place in known], [expected[place] for place in known])


def check_one_set(tables: Sequence[AnnData], use_rep: str) -> None:
    """Raise when features are principal components of each table's own, which have no more than names in common."""
    known = [loadings for table in tables if (loadings := find_loadings(table, use_rep)) is not None]
    for loadings in known[1:]:
        genes = known[0].index.intersection(loadings.index)
        if not is_same(known[0].loc[genes], loadings.loc[genes]):
            msg = (
                f".obsm[{use_rep!r}] are principal components with loadings of each table's own "
                f"(.varm[{loadings_key(use_rep)!r}]): the first of one is not the first of another. Compute them "
                'together: joined = anndata.concat(tables, label="slide"), then sc.pp.pca(joined), and give each table '
                "its rows."
            )
            raise ValueError(msg)


def is_same(one: Any, other: Any) -> bool:
    """Whether loadings are the same but for rounding."""
    one, other = np.asarray(one), np.asarray(other)
    return one.shape == other.shape and np.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
