"""What a student is taught: a teacher's logits, or the labels of a column."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._support.arrays import Integers
from stdistill._support.checks import suggest
from stdistill._support.warn import warn
from stdistill._table.checks import check_one_model
from stdistill._table.labels import NICHE_SUFFIX, label_name, warn_of_edited_labels, warn_of_names
from stdistill._table.niches import colors_of, logit_columns, logit_prefixes, niche_names, read_logits


class Targets(NamedTuple):
    """What is to be learned of the cells of all tables."""

    values: npt.NDArray[Any]
    """(n, k) float32 logits, or (n,) int64 labels, -1 where there is none."""
    known: npt.NDArray[np.bool_]
    """(n,), the cells of which the teacher says something."""
    niches: list[str]
    colors: list[str]

    @property
    def labels(self) -> Integers:
        """(n,), the niche that the teacher says each cell is in; whatever where it says nothing."""
        labels: Integers = self.values if self.values.ndim == 1 else self.values.argmax(axis=1)
        return labels


def has_targets(tables: Sequence[AnnData], teacher_key: str) -> bool:
    """Whether all tables have a teacher; raise when only some have."""
    found = [bool(logit_columns(table, teacher_key)) or teacher_key in table.obs for table in tables]
    if any(found) and not all(found):
        msg = f"teacher_key={teacher_key!r} is in {sum(found)} of the {len(found)} tables only."
        raise KeyError(msg)
    return all(found)


def read_targets(tables: Sequence[AnnData], teacher_key: str, k: int) -> Targets:
    """Read logits under the prefix `teacher_key`, which must be `k` of them, or else the labels of that column."""
    for table in tables:
        check_one_model(table, teacher_key.removesuffix(NICHE_SUFFIX))
        warn_of_edited_labels(table, teacher_key)
    if all(logit_columns(table, teacher_key) for table in tables):
        return _soft(tables, teacher_key, k)
    return _hard(tables, teacher_key)


def warn_of_labels_alone(tables: Sequence[AnnData], teacher_key: str) -> None:
    """Warn when the labels of a model teach whose logits are there and say the same: labels that were edited do not."""
    prefix = teacher_key.removesuffix(NICHE_SUFFIX)
    n_logits = {len(logit_columns(table, prefix)) for table in tables}
    if prefix == teacher_key or len(n_logits) > 1 or not min(n_logits):
        return
    with suppress(ValueError):
        niche_names(tables, prefix, min(n_logits))
        warn(
            f"teacher_key={teacher_key!r} is the column of labels, from which is learned as if the teacher were sure "
            f"of every cell. teacher_key={prefix!r} teaches its logits, as the method does."
        )


def missing_targets(tables: Sequence[AnnData], teacher_key: str) -> KeyError:
    """Say what could teach instead."""
    logits = logit_prefixes(tables[0])
    labels = [str(name) for name, column in tables[0].obs.items() if isinstance(column.dtype, pd.CategoricalDtype)]
    meant = suggest(teacher_key, [*logits, *labels])
    return KeyError(
        f"teacher_key={teacher_key!r} is neither a prefix of logits in .obs (there is: {logits or 'none'}) nor a "
        f"column of labels (there is: {labels or 'none'}).{meant} Fit a teacher with "
        f"sd.tl.nolan(key_added={teacher_key!r})."
    )


def _soft(tables: Sequence[AnnData], teacher_key: str, k: int) -> Targets:
    parts = [read_logits(table, teacher_key) for table in tables]
    found = sorted({part.shape[1] for part in parts})
    if found != [k]:
        msg = (
            f"k={k}, but the teacher {teacher_key!r} in .obs has {' and '.join(map(str, found))} niches. Give k="
            f"{found[0]}, or fit another teacher with sd.tl.nolan(k={k})."
        )
        raise ValueError(msg)
    logits = np.concatenate(parts)
    names = niche_names(tables, teacher_key, k)
    known = np.asarray(np.isfinite(logits).all(axis=1))
    return Targets(logits, known, names, colors_of(tables, f"{teacher_key}_niche", names))


def _hard(tables: Sequence[AnnData], teacher_key: str) -> Targets:
    columns = [_labels(table.obs[teacher_key], teacher_key) for table in tables]
    names = list(dict.fromkeys(name for column in columns for name in column.categories))
    if not names:
        msg = f".obs[{teacher_key!r}] has no labels: all are missing."
        raise ValueError(msg)
    warn_of_names(names, f".obs[{teacher_key!r}]")
    codes = np.concatenate([pd.Index(names).get_indexer(np.asarray(column, dtype=object)) for column in columns])
    labels = codes.astype(np.int64)
    return Targets(labels, np.asarray(labels >= 0), names, colors_of(tables, teacher_key, names))


def _labels(column: pd.Series, teacher_key: str) -> pd.Categorical:
    if pd.api.types.is_float_dtype(column.dtype):
        msg = f".obs[{teacher_key!r}] holds {column.dtype}; expected labels (categories, strings or integers)."
        raise TypeError(msg)
    labels = pd.Categorical(column).remove_unused_categories()
    return labels.rename_categories({name: label_name(name) for name in labels.categories})
