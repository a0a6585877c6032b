"""What a table of slides says of each of them: groups, covariates, patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill._support.arrays import Float64s, Integers, Mask, Rows
from stdistill._support.checks import check_key
from stdistill._table import schema
from stdistill._table.checks import holds_numbers
from stdistill._table.labels import warn_of_names

HINT = "sd.tl.cohort takes over the columns of the cohort's slides.csv."
STUDENT_MODEL = f"{schema.STUDENT}{schema.MODEL_SUFFIX}"
"""Which student the niches of a slide are of."""
N_NICHES = "n_niches"
"""How many cells of a slide have a niche."""
DECIMAL = r"\s*[-+]?\d+[.,]\d+\s*"
WHOLE = r"\s*[-+]?\d+\s*"
COPIED_CELLS = 100
"""Slides with as many cells, and the same number in each niche, are one slide (our choice)."""


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
    if holds_numbers(column.dtype):
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
    _check_no_numbers(column)
    labels = column.astype("category").cat.remove_unused_categories()
    indicators: Float64s = pd.get_dummies(labels, drop_first=True).to_numpy(dtype=np.float64)
    return indicators


def _check_no_numbers(column: pd.Series) -> None:
    """Raise when text is numbers, such as ages with a decimal comma, of which each would be a category of its own.

    Categories may be called by numbers, such as sites. A word among mostly numbers stands for none that is known.
    """
    values = column.astype(str)
    decimals, whole = values.str.fullmatch(DECIMAL), values.str.fullmatch(WHOLE)
    is_number = decimals | whole
    is_id = whole.mean() > 0.5 and values.nunique() > len(values) / 2
    is_mixed = 0.5 < is_number.mean() < 1
    if decimals.any() or is_id or is_mixed:
        shown = repr(values[decimals if decimals.any() else is_number].iloc[0])
        words = sorted(set(values[~is_number]))
        if words:
            shown += f" beside {', '.join(map(repr, words[:5]))}"
        name = column.name
        msg = (
            f".obs[{name!r}] (covariates) is text that holds numbers, such as {shown}, and each of its "
            f"{values.nunique()} values would be a category of its own. Make numbers of it: cohort.obs[{name!r}] = "
            f'pd.to_numeric(cohort.obs[{name!r}].astype(str).str.replace(",", "."), errors="coerce"), which leaves out '
            "what is none; categories may have names that are no numbers."
        )
        raise ValueError(msg)


def check_one_student(obs: pd.DataFrame) -> None:
    """Raise when slides are of several students, whose niches have names in common and nothing else."""
    models: list[str] = [*obs[STUDENT_MODEL].dropna().unique()] if STUDENT_MODEL in obs else []
    if len(models) > 1:
        msg = (
            f"The slides are of {len(models)} students (.obs[{STUDENT_MODEL!r}]: {', '.join(map(str, models[:3]))}): "
            "what one calls a niche is another niche of the other, whatever its name. Run all slides with one student, "
            f"or choose those of one: cohort[cohort.obs[{STUDENT_MODEL!r}] == {str(models[0])!r}]."
        )
        raise ValueError(msg)


def check_slides(cohort: AnnData) -> None:
    """Raise when ``.obs`` of `tl.cohort` was put in another order than the numbers of cells, as by a merge."""
    if not {STUDENT_MODEL, N_NICHES} <= set(cohort.obs) or schema.COUNTS not in cohort.layers:
        return
    found = np.asarray(cohort.layers[schema.COUNTS]).sum(axis=1)
    said = pd.to_numeric(cohort.obs[N_NICHES], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    moved = found > said  # fewer are there where niches were left out
    if moved.any():
        first = int(moved.argmax())
        msg = (
            f"The rows of .obs are of other slides than the numbers of cells: {cohort.obs_names[first]!r} has "
            f"{said[first]:,.0f} cells with a niche by .obs[{N_NICHES!r}], and "
            f'{found[first]:,.0f} in .layers["{schema.COUNTS}"]. They were put in another order, as by cohort.obs = '
            "clinical.merge(cohort.obs). Read the cohort again, and add columns by name: cohort.obs = "
            'cohort.obs.join(clinical.set_index("patient"), on="patient").'
        )
        raise ValueError(msg)


def find_copies(names: pd.Index, counts: Integers) -> list[tuple[str, str]]:
    """Return the slides that have as many cells in every niche as one before them: they are one slide, twice."""
    rows = pd.DataFrame(counts, index=names)
    rows = rows[rows.sum(axis=1) >= COPIED_CELLS]
    first: dict[tuple[int, ...], str] = {}
    found = []
    for name, row in zip(rows.index, rows.itertuples(index=False, name=None), strict=True):
        if row in first:
            found.append((first[row], str(name)))
        first.setdefault(row, str(name))
    return found
