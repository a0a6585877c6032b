"""Whether rows of ``.obs`` and ``.obsm`` still belong together, and hold what was written."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._support.arrays import Integers, Mask
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.marks.cells import fingerprint_rows, short_marks, short_marks_of_centers

N_LOOKED_AT = 1_000
"""Rows, evenly over the table, whose values are looked at."""
MOVED = 0.05
"""Of rows whose values are not their own, this part has those of other rows where rows were moved (our choice):
values that were changed are nobody's, and of a subset most owners may be gone."""
SAME_UM = 1e-3
"""Centres that were turned, mirrored or scaled lie where one map puts them, up to this share of their extent."""


def mark_column(key: str) -> str:
    """Name the column of ``.obs`` of the marks of what stands under a key."""
    return f"{key}{schema.MARK_SUFFIX}"


def write_rows(adata: AnnData, key: str, values: npt.NDArray[Any]) -> None:
    """Write values (n, d) to ``.obsm``, and each row's mark to ``.obs``."""
    adata.obsm[key] = values
    adata.obs[mark_column(key)] = short_marks(values)
    mark_places(adata)


def write_features(adata: AnnData, key: str, features: npt.NDArray[Any]) -> str:
    """Write features (n, d) with their marks, and return the fingerprint of all of them."""
    write_rows(adata, key, features)
    return fingerprint_rows(features)


def mark_places(adata: AnnData) -> npt.NDArray[np.uint32] | None:
    """Return a number for each cell by where it lies, which ``.obs`` keeps from the first time on; `None` without any.

    It stays what it is when centres are turned or get another unit, and goes with the rows of ``.obs``.
    """
    column = mark_column(schema.SPATIAL)
    if column in adata.obs and adata.obs[column].notna().all():
        kept: npt.NDArray[np.uint32] = adata.obs[column].to_numpy(dtype=np.uint32)
        return kept
    found = _found(adata, schema.SPATIAL)
    if found is not None:
        adata.obs[column] = found
    return found


def check_rows(adata: AnnData) -> None:
    """Raise when rows of ``.obs`` or ``.obsm`` were put in another order, each by itself, since they were written.

    The marks in ``.obs`` go with the rows there. Values that were changed on purpose pass.
    """
    keys = sorted((key for key in adata.obsm if mark_column(key) in adata.obs), key=lambda key: key == schema.SPATIAL)
    if not keys or not adata.n_obs:
        return
    some = adata[_some_rows(adata.n_obs)]  # of a view no more is read
    for key in keys:
        found = _found(some, key)
        if found is None:
            continue
        column = mark_column(key)
        other = _differ(some, key, found)
        foreign = found[other]
        n_moved = np.isin(foreign, _only_once(adata.obs[column], foreign)).sum() if len(foreign) else 0
        if n_moved > MOVED * len(foreign) and not (key == schema.SPATIAL and _is_one_map(adata, some, other)):
            msg = (
                f"Rows of .obs and of .obsm[{key!r}] do not belong together any more: {len(foreign)} of {len(found)} "
                f"rows that were looked at have not the values that .obs[{column!r}] was written with, and other "
                "rows have. One was put in another order by itself, as by adata.obs = adata.obs.sort_values(...): "
                "labels, features and centres are of different cells. Read the table again, and order all of it at "
                "once: adata = adata[adata.obs.sort_values(...).index].copy(). If only these were moved, "
                f"{_again(key)}."
            )
            raise ValueError(msg)


def warn_of_edits(adata: AnnData, key: str) -> None:
    """Warn of values in ``.obsm`` that are not those that were written; all rows are looked at."""
    found = _found(adata, key) if mark_column(key) in adata.obs else None
    if found is not None and (n := int(_differ(adata, key, found).sum())):
        warn(
            f".obsm[{key!r}] was changed in {n} of {len(found)} rows since it was written: what is recorded of it may "
            "not be true of it, nor of what was made from it before. Put what you make of it under a key of its own."
        )


def _again(key: str) -> str:
    if key == schema.SPATIAL:
        return "set the centres by the names of the cells, frame.loc[adata.obs_names].to_numpy()"
    return f"del adata.obsm[{key!r}], and compute them again"


def _some_rows(n: int) -> Integers:
    return np.unique(np.linspace(0, n - 1, N_LOOKED_AT).astype(np.int64))


def _found(adata: AnnData, key: str) -> npt.NDArray[np.uint32] | None:
    """Return the marks of what stands in ``.obsm``; `None` of what is none of ours."""
    values = adata.obsm.get(key)
    if key == schema.SPATIAL:
        centers = None if values is None else np.asarray(values)
        if centers is None or centers.ndim != 2 or centers.dtype.kind not in "fiu":
            return None
        return short_marks_of_centers(centers)
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind != "f":
        return None
    return short_marks(values)


def _only_once(marks: pd.Series, wanted: npt.NDArray[Any]) -> pd.Series:
    """Return those of some marks that are there once."""
    return marks[marks.isin(wanted)].drop_duplicates(keep=False)


def _differ(adata: AnnData, key: str, found: npt.NDArray[np.uint32]) -> Mask:
    """Tell rows whose marks are not those in ``.obs``, which are missing where tables met."""
    own = adata.obs[mark_column(key)].to_numpy(dtype=np.float64, na_value=np.nan)
    differ: Mask = ~np.isnan(own) & (found != own)
    return differ


def _is_one_map(adata: AnnData, some: AnnData, moved: Mask) -> bool:
    """Whether centres are where one affine map puts them: spots that are turned or mirrored lie on spots again."""
    centers = np.asarray(adata.obsm[schema.SPATIAL], dtype=np.float64)
    before = some.obs[mark_column(schema.SPATIAL)].to_numpy(dtype=np.float64, na_value=np.nan)[moved]
    there = _only_once(pd.Series(short_marks_of_centers(centers)), before)
    found = pd.Index(there).get_indexer(pd.Index(before))
    old = centers[there.index[found[found >= 0]]]
    new = np.asarray(some.obsm[schema.SPATIAL], dtype=np.float64)[moved][found >= 0]
    if len(old) < 4:  # through three any map goes
        return False
    known = np.column_stack([old, np.ones(len(old))])
    rest = new - known @ np.linalg.lstsq(known, new, rcond=None)[0]
    return bool(np.median(np.abs(rest)) < SAME_UM * np.ptp(new, axis=0).max())
