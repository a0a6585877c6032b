"""The one place that writes niches into a table: logits, labels, confidence, colours; and reads them back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._support.arrays import Mask
from stdistill._support.checks import check_name
from stdistill._table import schema
from stdistill._table.checks import check_one_model
from stdistill._table.graph import NEIGHBORS
from stdistill._table.labels import NICHE_SUFFIX, label_name, warn_of_edited_labels
from stdistill._table.marks.labels import drop_marks, write_label_marks
from stdistill._table.provenance.results import fingerprint, write_fitted
from stdistill._table.records import drop_record

# fmt: off
PALETTE = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
    "#0000ff", "#3c2d5a", "#4b2d2d", "#e1e178", "#0f5aff", "#69c3f0", "#78f0b4", "#785a96", "#780000", "#1e00b4",
    "#0087ff", "#4b1e78", "#4b4b5a", "#c3a54b", "#7896b4", "#a53c2d", "#a5a587", "#874b4b", "#a5f04b", "#c3693c",
    "#4b0096", "#78f096", "#d23cc3", "#96e1ff", "#69b4ff", "#78e1c3", "#002de1", "#a54be1", "#3c3cd2", "#e10078",
)
"""Colours of the niches, told apart also with red-green blindness.

The first ten are those of Petroff 2021. Each further one is the colour, of lightness 22 to 88, furthest in CIELAB from
all before it in the least of three views: normal, protanopic and deuteranopic (Machado et al. 2009). The closest two of
20 are 18 apart, of 40 they are 12.
"""


def default_colors(k: int) -> list[str]:
    """Colours for `k` niches: more than 40 have those of scanpy, of which there are 102 before they repeat."""
    if k <= len(PALETTE):
        return list(PALETTE[:k])
    from scanpy.plotting.palettes import default_102

    return [default_102[niche % len(default_102)].lower() for niche in range(k)]


def column_colors(adata: AnnData, column: str, names: Sequence[str]) -> list[str]:
    """Default colours of the categories of a column that has none: those of a model's niches in the order of logits.

    So they are what the model itself would write, in whatever order the categories are.
    """
    prefix = column.removesuffix(NICHE_SUFFIX)
    if k := len(logit_columns(adata, prefix)):
        with suppress(ValueError):  # labels that are not those of the logits
            by_name = dict(zip(niche_names([adata], prefix, k), default_colors(k), strict=True))
            if by_name.keys() >= set(names):
                return [by_name[name] for name in names]
    return default_colors(len(names))


def write_niches(
    adata: AnnData,
    key_added: str,
    logits: npt.NDArray[np.floating[Any]],
    *,
    niches: Sequence[str],
    colors: Sequence[str],
    fitted: Mask | None = None,
    model: str | None = None,
    temperature: float = 1.0,
    ood: npt.NDArray[np.float32] | None = None,
) -> str:
    """Write what a niche model says of each cell, and return the fingerprint of it.

    Parameters
    ----------
    adata
        The table.
    key_added
        Prefix of what is written; what was there under it goes.
    logits
        (n, k); a row with a NaN is a cell without a prediction.
    niches, colors
        Names and colours of the k niches.
    fitted
        (n,), the cells that the model, or what it stands on, was fitted on.
    model
        Fingerprint of the model.
    temperature
        What the logits are divided by for the confidence.
    ood
        (n,), how unusual the features of each cell are.
    """
    check_name(key_added, "key_added")
    logits = np.asarray(logits, dtype=np.float32)
    predicted = ~np.isnan(logits).any(axis=1)
    codes = np.full(len(logits), -1, dtype=np.int64)
    confidence = np.full(len(logits), np.nan, dtype=np.float32)
    if predicted.any():
        known = logits[predicted]
        codes[predicted] = known.argmax(axis=1)
        with np.errstate(under="ignore"):  # an error where a user has it raised, after all of the training
            confidence[predicted] = 1 / np.exp((known - known.max(axis=1, keepdims=True)) / temperature).sum(axis=1)
    logits = np.where(predicted[:, None], logits, np.float32(np.nan))
    columns: dict[str, Any] = {f"{key_added}_logit_{niche}": logits[:, niche] for niche in range(len(niches))}
    columns[f"{key_added}{NICHE_SUFFIX}"] = pd.Categorical.from_codes(codes, categories=pd.Index(niches))
    columns[f"{key_added}{schema.CONFIDENCE_SUFFIX}"] = confidence
    if ood is not None:
        columns[f"{key_added}{schema.OOD_SUFFIX}"] = ood
    clear_niches(adata, key_added)
    adata.obs = pd.concat([adata.obs, pd.DataFrame(columns, index=adata.obs_names)], axis=1)
    write_label_marks(adata, key_added, codes)
    write_fitted(adata, key_added, fitted, model)
    adata.uns[f"{key_added}_niche_colors"] = np.array(colors, dtype=object)
    return fingerprint(logits)


def clear_niches(adata: AnnData, key_added: str) -> None:
    """Take away what a niche model wrote of each cell under a prefix, and the verdict: neither is of other niches."""
    endings = (NICHE_SUFFIX, schema.CONFIDENCE_SUFFIX, schema.OOD_SUFFIX, schema.TRUSTED_SUFFIX)
    written = [f"{key_added}{ending}" for ending in endings]
    adata.obs = adata.obs.drop(columns=[*logit_columns(adata, key_added), *adata.obs.columns.intersection(written)])
    drop_marks(adata, key_added)
    write_fitted(adata, key_added, None)
    drop_record(adata, "verdict", key_added)


def logit_columns(adata: AnnData, key: str) -> list[str]:
    """Name the columns of the logits under a prefix, by the number of the niche."""
    numbered = [
        (int(found[1]), name)
        for name in map(str, adata.obs.columns)
        if (found := re.fullmatch(rf"{re.escape(key)}_logit_(\d+)", name))
    ]
    return [name for _, name in sorted(numbered)]


def read_logits(adata: AnnData, key: str) -> npt.NDArray[np.float32]:
    """Return the logits (n, k) under a prefix, which are there, and of one model."""
    check_one_model(adata, key)
    warn_of_edited_labels(adata, f"{key}{NICHE_SUFFIX}")
    names = logit_columns(adata, key)
    expected = [f"{key}_logit_{niche}" for niche in range(len(names))]
    if names != expected:
        missing = next(name for name in expected if name not in names)
        msg = f".obs holds {len(names)} columns of logits of {key!r}, but not {missing!r}: write them anew."
        raise ValueError(msg)
    logits: npt.NDArray[np.float32] = adata.obs[names].to_numpy(dtype=np.float32)
    return logits


def logit_prefixes(adata: AnnData) -> list[str]:
    """Name the prefixes under which there are logits."""
    return sorted(str(name).removesuffix("_logit_0") for name in adata.obs.columns if str(name).endswith("_logit_0"))


def niche_names(adatas: Iterable[AnnData], key: str, k: int) -> list[str]:
    """Name the `k` niches under a prefix, as the column of labels calls the cells with the largest logit of each.

    The order of the categories says nothing: it changes where columns are made text, reordered or concatenated. Niches
    that no cell is in have the names that are left, or their number.

    Raises
    ------
    ValueError
        When labels and logits do not agree.
    """
    tables = [adata for adata in adatas if f"{key}{NICHE_SUFFIX}" in adata.obs]
    names: dict[int, str] = {}
    left: list[str] = []
    for table in tables:
        column, logits = table.obs[f"{key}{NICHE_SUFFIX}"], read_logits(table, key)
        known = (column.notna() & np.isfinite(logits).all(axis=1)).to_numpy()
        pairs = pd.DataFrame({"niche": logits[known].argmax(axis=1), "name": column[known].astype(str).to_numpy()})
        counts = pairs.value_counts()
        for niche, name in counts.index:
            if names.setdefault(int(niche), str(name)) != name:
                msg = (
                    f'The labels in .obs["{key}_niche"] are not those of the logits {key!r}: they were changed, or are '
                    f"of another model. Write both anew, or let the labels teach as they are "
                    f'(teacher_key="{key}_niche").'
                )
                raise ValueError(msg)
        if isinstance(column.dtype, pd.CategoricalDtype) and len(column.cat.categories) == k:
            left = left or [str(name) for name in column.cat.categories]
    if len(set(names.values())) < len(names):
        msg = (
            f'Several niches of the logits {key!r} go by one name in .obs["{key}_niche"]. Let these labels teach '
            f'(teacher_key="{key}_niche"), or give each niche a name of its own.'
        )
        raise ValueError(msg)
    left = [name for name in left if name not in names.values()]
    missing = [niche for niche in range(k) if niche not in names]
    if len(left) == len(missing):
        return [name for _, name in sorted({**names, **dict(zip(missing, left, strict=True))}.items())]
    taken = set(names.values())
    return [names.get(n, str(n) if str(n) not in taken else f"niche {n}") for n in range(k)]


def colors_of(adatas: Iterable[AnnData], column: str, names: Sequence[str]) -> list[str]:
    """Find the colours of the categories of a column by name; the default ones for those that have none."""
    found: dict[str, str] = {}
    for adata in adatas:
        found = {**colors_by_name(adata, column), **found}
    return [found.get(name, color) for name, color in zip(names, default_colors(len(names)), strict=True)]


def colors_by_name(adata: AnnData, column: str) -> Mapping[str, str]:
    """Return the colours of the categories of a column by name; none where it cannot be told whose they are."""
    colors = adata.uns.get(f"{column}_colors")
    if colors is None or column not in adata.obs or not isinstance(adata.obs[column].dtype, pd.CategoricalDtype):
        return {}
    if isinstance(colors, Mapping):
        return {label_name(name): _as_color(color, column) for name, color in colors.items()}
    names = _colored(adata, column, [str(color) for color in colors])
    if len(colors) != len(names):
        return {}
    return {name: _as_color(color, column) for name, color in zip(names, colors, strict=True)}


def _colored(adata: AnnData, column: str, colors: Sequence[str]) -> list[str]:
    """Name whose the colours of a column are, in their order: its categories, unless these were changed by themselves.

    Niches that lost their cells may have been dropped from the categories, or all brought into another order, as by
    making them text. The colours that a model writes by default stay in the order of its logits.
    """
    names = [label_name(name) for name in adata.obs[column].cat.categories]
    prefix = column.removesuffix(NICHE_SUFFIX)
    are_as_written = list(colors) == default_colors(len(colors))  # others may follow the categories as they were then
    in_order = names == [str(number) for number in range(len(colors))]
    if are_as_written and not in_order and len(logit_columns(adata, prefix)) == len(colors):
        with suppress(ValueError):  # labels that are not those of the logits
            return niche_names([adata], prefix, len(colors))
    return names


def _as_color(color: Any, column: str) -> str:
    """Return a colour of the table as text: numbers, red, green and blue, become ``#rrggbb``."""
    from matplotlib.colors import is_color_like, to_hex

    if not is_color_like(color):
        where = f'.uns["{column}_colors"]'
        msg = f"{where} holds [{color!r}]; expected colours as matplotlib names them, such as 'red' or '#ff0000'."
        raise ValueError(msg)
    return str(color) if isinstance(color, str) else to_hex(color, keep_alpha=False)


def niches_alone(cells: AnnData) -> AnnData:
    """Return a table with what is known of each cell and where it is, without counts, features and graph."""
    uns = {name: value for name, value in cells.uns.items() if name != NEIGHBORS}
    return AnnData(obs=cells.obs, obsm={schema.SPATIAL: cells.obsm[schema.SPATIAL]}, uns=uns)
