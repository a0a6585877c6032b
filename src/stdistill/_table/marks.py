"""Numbers that stand for cells by what is known of them: they are the same in any table, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._support.arrays import Floats
from stdistill._table import schema

CHUNK = 4_000_000
"""Numbers that are hashed at once."""
N_LOOKED_AT = 1_000
"""Rows, evenly over the table, whose features are looked at."""
MOVED = 0.05
"""Of rows whose features are not their own, this part has those of other rows where rows were moved (our choice):
features that were changed are nobody's, and of a subset most owners may be gone."""

Marks = npt.NDArray[np.int64]


def mark_cells(features: npt.NDArray[Any], centers: Floats) -> Marks:
    """Give each cell (n,) a number by its features (n, d) and its centre (n, 2) in µm, the same in any table.

    Both count: features alone are equal for many cells where there are few of them, centres alone on a grid. They are
    rounded, so that other types of numbers make no other cells.
    """
    return _join(_mark_rows(features, _float16_bits), centers)


def mark_counts(counts: Any, centers: Floats | None) -> Marks:
    """Give each cell (n,) a number by its counts (n, genes), CSR or an array, and by its centre, if it has one."""
    return _join(_mark_rows(counts, lambda part: part.astype(np.int64).astype(np.uint64)), centers)


def fingerprint_rows(features: npt.NDArray[Any]) -> str:
    """Tell features (n, d) from others, in whatever order the cells are."""
    return f"{int(_mark_rows(features, _float16_bits).sum(dtype=np.uint64)):016x}"


def write_features(adata: AnnData, key: str, features: npt.NDArray[Any]) -> str:
    """Write features (n, d) to ``.obsm``, and each row's mark to ``.obs``; return the fingerprint of all of them."""
    adata.obsm[key] = features
    adata.obs[f"{key}{schema.MARK_SUFFIX}"] = _short(features)
    return fingerprint_rows(features)


def check_rows(adata: AnnData) -> None:
    """Raise when rows of ``.obs`` or ``.obsm`` were put in another order, each by itself, since features were written.

    The marks in ``.obs`` go with the rows there. Features that were changed on purpose pass.
    """
    columns = {key: f"{key}{schema.MARK_SUFFIX}" for key in adata.obsm if f"{key}{schema.MARK_SUFFIX}" in adata.obs}
    if not columns or not adata.n_obs:
        return
    some = adata[np.unique(np.linspace(0, adata.n_obs - 1, N_LOOKED_AT).astype(np.int64))]  # of a view no more is read
    for key, column in columns.items():
        features = some.obsm[key]
        if not isinstance(features, np.ndarray) or features.ndim != 2 or features.dtype.kind != "f":
            continue
        found = _short(features)
        own = some.obs[column].to_numpy(dtype=np.float64, na_value=np.nan)  # missing where tables met
        foreign = found[~np.isnan(own) & (found != own)]
        n_moved = np.isin(foreign, adata.obs[column].drop_duplicates(keep=False)).sum() if len(foreign) else 0
        if n_moved > MOVED * len(foreign):
            msg = (
                f"Rows of .obs and of .obsm[{key!r}] do not belong together any more: {len(foreign)} of {len(found)} "
                f"rows that were looked at have not the features that .obs[{column!r}] was written with, and other "
                "rows have. One was put in another order by itself, as by adata.obs = adata.obs.sort_values(...): "
                "labels, features and centres are of different cells. Read the table again, and order all of it at "
                "once: adata = adata[adata.obs.sort_values(...).index].copy(). If only the features were moved, "
                f"del adata.obsm[{key!r}], and compute them again."
            )
            raise ValueError(msg)


def _short(features: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Return marks of rows that take little room, and are the same in floating point, as where some are missing."""
    return (_mark_rows(features, _float16_bits) >> np.uint64(32)).astype(np.uint32)


def _mark_rows(matrix: Any, bits: Callable[[Any], Any]) -> npt.NDArray[np.uint64]:
    """Hash each row: its bits are multiplied by odd numbers and added up modulo 2⁶⁴ (our choice)."""
    n, width = matrix.shape
    odd = pd.util.hash_array(np.arange(1, width + 1, dtype=np.uint64)) | np.uint64(1)
    step = max(1, CHUNK // max(1, width))
    sums = [bits(matrix[start : start + step]) @ odd for start in range(0, n, step)]
    return pd.util.hash_array(np.concatenate([np.zeros(0, dtype=np.uint64), *sums]))


def _join(marks: npt.NDArray[np.uint64], centers: Floats | None) -> Marks:
    joint = marks if centers is None else marks + np.uint64(3) * _mark_rows(centers, _float32_bits)
    return joint.view(np.int64)


def _float16_bits(part: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore", under="ignore"):
        return np.ascontiguousarray(part, dtype=np.float16).view(np.uint16).astype(np.uint64)


def _float32_bits(part: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(part, dtype=np.float32).view(np.uint32).astype(np.uint64)
