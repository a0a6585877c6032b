"""Niche labels, cell types and groups of the split, as the measures read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill._measures.labels import Labels
from stdistill._support.arrays import Mask
from stdistill._support.checks import as_names, check_key
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import check_one_model, get_split
from stdistill._table.marks.labels import warn_of_other_labels

NICHE_SUFFIX = "_niche"
WRITERS = "Niches are written by sd.tl.nolan, sd.tl.kmeans_niches, sd.tl.distill, sd.tl.predict and sd.tl.leiden."
CELL_TYPE_HINT = "Read one with sd.pp.read_xenium(cell_groups=...), or set it."
LIKE_MISSING = {"nan", "NaN", "None", "<NA>", "NA", "NaT", ""}
ALL_CELLS = "all"
"""Name of the one group when there is no split."""


def label_name(label: object) -> str:
    """Name a label: 1 and 1.0 are one, because whole numbers become floating point where some are missing."""
    is_whole = isinstance(label, float | np.floating) and float(label).is_integer()
    return str(int(label) if is_whole else label)  # type: ignore[call-overload]


def read_labels(adata: AnnData, key: str, argument: str, hint: str | None = WRITERS) -> Labels:
    """Read a column of groups, which must be categorical and must not be missing for every cell."""
    check_key(key, adata.obs.columns, "a column of .obs", argument=argument, hint=hint, suffix=NICHE_SUFFIX)
    column = adata.obs[key]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        msg = (
            f".obs[{key!r}] ({argument}) holds {column.dtype}; expected a categorical column. If its values name "
            f'groups, make it one: adata.obs[{key!r}] = adata.obs[{key!r}].astype("category").'
        )
        raise TypeError(msg)
    warn_of_names(column.cat.remove_unused_categories().cat.categories, f".obs[{key!r}]")
    check_one_model(adata, key.removesuffix(NICHE_SUFFIX))
    warn_of_edited_labels(adata, key)
    labels = Labels(column.cat.codes.to_numpy().astype(np.intp), list(map(label_name, column.cat.categories)))
    if not labels.known.any():
        msg = f".obs[{key!r}] ({argument}) is missing for all of the {adata.n_obs} cells."
        raise ValueError(msg)
    return labels


def warn_of_edited_labels(adata: AnnData, key: str) -> None:
    """Warn when a column of niches, or a split, holds others than were written; one of the user's own passes."""
    prefix = key.removesuffix(NICHE_SUFFIX)
    if key in adata.obs and prefix not in adata.obsm:
        warn_of_other_labels(adata, key, prefix)


def warn_of_names(names: Iterable[object], where: str) -> None:
    """Warn of labels that say that there is none, as `astype(str)` makes them of missing ones, and of two spellings.

    Whether 01 and 1 are one is for the user to say: programs take zeros from numbers, and ids may differ in them.
    """
    texts = [str(name) for name in names]
    found = sorted(set(texts) & LIKE_MISSING)
    if found:
        warn(
            f"{where} has the labels {found}, which count as any other. If they stand for cells without one, set these "
            "to missing: adata.obs[key] = adata.obs[key].cat.remove_categories([...])."
        )
    if twins := _twins(texts, _plain):
        warn(
            f"{where} has labels that differ in blanks or capitals alone, and count as groups of their own: "
            f"{', '.join(map(repr, twins[:6]))}. If they are one, write them alike, for example "
            'adata.obs[key] = adata.obs[key].astype(object).str.strip().astype("category").'
        )
    names_of_numbers = [name for name in texts if name not in twins]
    if twins := _twins(names_of_numbers, _number):
        warn(
            f"{where} has labels that differ in the zeros of a number alone, and count as groups of their own: "
            f"{', '.join(map(repr, twins[:6]))}. Where a table was read anew, 01 becomes 1, or 1 becomes 1.0. If they "
            'are one, write them alike in all tables, for example adata.obs[key] = adata.obs[key].replace("01", "1").'
        )


def _twins(names: Iterable[str], spell: Callable[[str], str]) -> list[str]:
    """Return the names that are spelt as another one."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(spell(name), []).append(name)
    return [name for spellings in alike.values() if len(spellings) > 1 for name in spellings]


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _number(name: str) -> str:
    """Leave out the zeros ahead of whole numbers, and those behind the point of one that is all of the name."""
    return re.sub(r"(?<![\d.,])0+(?=\d)", "", re.sub(r"^(\d+)[.,]0+$", r"\1", _plain(name)))


def find_columns(
    adata: AnnData,
    keys: str | Sequence[str] | None,
    *,
    suffix: str = NICHE_SUFFIX,
    hint: str = WRITERS,
    leave_out: str | None = None,
) -> list[str]:
    """Return the columns of ``.obs`` that were named, else all of niches, or of another suffix, but `leave_out`."""
    if keys is None:
        found = [str(key) for key in adata.obs.columns if str(key).endswith(suffix) and key != leave_out]
        if not found:
            beside = "" if leave_out is None else f" beside {leave_out!r}"
            msg = f"There is no column *{suffix} in .obs{beside}. {hint} Name other columns with keys=."
            raise KeyError(msg)
        return found
    chosen = as_names(keys, "keys", "columns of .obs")
    for key in chosen:
        check_key(key, adata.obs.columns, "a column of .obs", argument="keys", hint=hint, suffix=suffix)
    return chosen


def read_split(adata: AnnData, split_key: str | None) -> Labels | None:
    """Read the split; `None` without one, as for :func:`stdistill.pp.neighborhoods`."""
    column = get_split(adata, split_key)
    if column is None:
        return None
    split = pd.Categorical(adata.obs[str(column.name)])
    return Labels(split.codes.astype(np.intp), list(map(str, split.categories)))


def split_group(split: Labels, group: str) -> Mask:
    """Return the cells of a group of the split, of which there must be some."""
    cells = split.codes == split.names.index(group) if group in split.names else np.zeros(len(split.codes), dtype=bool)
    if not cells.any():
        present = [split.names[code] for code in np.unique(split.codes[split.known])]
        msg = f"No cell is {group!r} in the split, which holds {present}. Give split_key=None to take all cells."
        raise ValueError(msg)
    return cells


def held_out(adata: AnnData, split_key: str | None) -> tuple[str, Mask]:
    """Return the cells that measures are taken on and the name of their group: the test cells, without a split all."""
    split = read_split(adata, split_key)
    if split is None:
        return ALL_CELLS, np.ones(adata.n_obs, dtype=bool)
    return schema.TEST, split_group(split, schema.TEST)
