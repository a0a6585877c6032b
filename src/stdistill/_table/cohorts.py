"""What a table of slides says of each of them: groups, covariates, patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill._support.arrays import Float64s, Mask, Rows
from stdistill._support.checks import check_key
from stdistill._table import schema
from stdistill._table.labels import warn_of_names

HINT = "sd.tl.cohort takes over the columns of the cohort's slides.csv."


class Slides(NamedTuple):
    """The slides of which all that is asked for is known."""

    known: Mask
    """(all,): which of the table's."""
    group: Float64s
    """(n,): 0 and 1 of two groups, or a number."""
    groups: list[str] | None
    """The names of the two, the one that is compared with first; `None` of a number."""
    covariates: Float64s
    """(n, p): numbers as they are, categories as 0 and 1 for each but the first."""
    patients: Rows
    """(n,); each slide has one of its own when none are named."""


def read_slides(
    cohort: AnnData, *, group_key: str, covariates: Sequence[str], paired_key: str | None, reference: str | None
) -> Slides:
    """Read columns of ``.obs``; slides that lack one of them, or have no cell with a niche, are left out."""
    for name, argument in [
        (group_key, "group_key"),
        *((each, "covariates") for each in covariates),
        *([] if paired_key is None else [(paired_key, "paired_key")]),
    ]:
        check_key(name, cohort.obs.columns, "a column of .obs", argument=argument, hint=HINT)
    asked = [group_key, *covariates, *([] if paired_key is None else [paired_key])]
    if len(set(asked)) < len(asked):
        msg = f"group_key, covariates and paired_key name {asked}: each column has one part to play."
        raise ValueError(msg)
    has_cells = np.asarray(cohort.layers[schema.COUNTS]).sum(axis=1) > 0
    known: Mask = cohort.obs[asked].notna().all(axis=1).to_numpy() & has_cells
    obs = cohort.obs[known]
    if obs.empty:
        msg = f"No slide has cells with a niche and all of the columns {asked}."
        raise ValueError(msg)
    for name in asked:
        if not pd.api.types.is_numeric_dtype(obs[name].dtype):
            warn_of_names(obs[name].unique(), f".obs[{name!r}]")
    group, groups = _read_group(obs[group_key], group_key, reference)
    columns = [_read_covariate(obs[each]) for each in covariates]
    patients = np.arange(len(obs)) if paired_key is None else pd.factorize(obs[paired_key])[0]
    return Slides(known, group, groups, np.concatenate([np.empty((len(obs), 0)), *columns], axis=1), patients)


def _read_group(column: pd.Series, group_key: str, reference: str | None) -> tuple[Float64s, list[str] | None]:
    """Return numbers, and the names of two groups."""
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64)
        if reference is not None:
            msg = f"reference={reference!r} goes with two groups; .obs[{group_key!r}] holds numbers."
            raise ValueError(msg)
        if np.ptp(values) == 0:
            msg = f".obs[{group_key!r}] is {values[0]:g} of all slides compared: there is nothing to compare."
            raise ValueError(msg)
        return values, None
    labels = column.astype("category").cat.remove_unused_categories()
    names = list(map(str, labels.cat.categories))
    if len(names) != 2:
        msg = (
            f".obs[{group_key!r}] has {len(names)} groups in the slides compared ({', '.join(map(repr, names))}); "
            "expected two, or numbers. Choose the slides of two of them: cohort[cohort.obs[...].isin([..., ...])]."
        )
        raise ValueError(msg)
    first = names[0] if reference is None else reference
    check_key(first, names, f"a group of .obs[{group_key!r}]", argument="reference")
    other = names[1 - names.index(first)]
    return np.where(labels.astype(str) == other, 1.0, 0.0), [first, other]


def _read_covariate(column: pd.Series) -> Float64s:
    if pd.api.types.is_numeric_dtype(column.dtype):
        values: Float64s = column.to_numpy(dtype=np.float64)
        return values[:, None]
    labels = column.astype("category").cat.remove_unused_categories()
    indicators: Float64s = pd.get_dummies(labels, drop_first=True).to_numpy(dtype=np.float64)
    return indicators
