"""Whether labels are those that were written for these cells; names may have changed since, and several become one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._support.arrays import Integers, Mask
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.marks.rows import mark_column, mark_places

MOST_CODES = 256
"""Groups that are told apart."""
NOT_WRITTEN = -2
"""Code of a mark that was written for another cell."""


def write_label_marks(adata: AnnData, key: str, codes: Integers) -> None:
    """Write a number for each cell's label, -1 where it has none, that is right for this cell alone."""
    places = mark_places(adata)
    if places is not None and codes.max(initial=-1) < MOST_CODES:
        adata.obs[mark_column(key)] = _mark(places, codes)
    else:
        drop_marks(adata, key)


def drop_marks(adata: AnnData, key: str) -> None:
    """Take away the marks of what is written anew, or not any more."""
    if mark_column(key) in adata.obs:
        del adata.obs[mark_column(key)]


def warn_of_other_labels(adata: AnnData, column: str, key: str) -> None:
    """Warn when labels in a column of ``.obs`` are not those that were written under a key for these cells."""
    needed = [mark_column(key), mark_column(schema.SPATIAL)]
    if not set(needed) <= set(adata.obs.columns):
        return
    given = adata.obs[column]
    labels = given.cat.codes.to_numpy() if isinstance(given.dtype, pd.CategoricalDtype) else pd.factorize(given)[0]
    there = [adata.obs[name].notna() for name in needed]  # not so where tables met
    known = (labels >= 0) & np.logical_and.reduce(there)
    labels = labels[known]
    codes = _codes(*(adata.obs[name].to_numpy()[known].astype(np.uint32) for name in needed))
    n_changed = int((~_is_renamed(codes, labels)).sum())
    if n_changed:
        warn(
            f".obs[{column!r}] has other labels than were written for {n_changed} of {len(labels)} cells: they were "
            "edited, or put in another order than the rest of the table, as by an assignment of values without their "
            "cells' names. They count as they are, and what is recorded of them may not be true. Keep what you make of "
            "labels in a column of its own."
        )


def _mark(places: npt.NDArray[np.uint32], codes: Integers) -> npt.NDArray[np.uint32]:
    """Add the code of each label to the number of where its cell lies, modulo 2³²."""
    return places + (codes.astype(np.int64) + 1).astype(np.uint32)


def _codes(marks: npt.NDArray[np.uint32], places: npt.NDArray[np.uint32]) -> Integers:
    """Find the code that each mark was made of; with another cell's place, which is random, it is hardly ever small."""
    codes = (marks - places).astype(np.int64) - 1
    codes[codes >= MOST_CODES] = NOT_WRITTEN
    return codes


def _is_renamed(codes: Integers, labels: Integers) -> Mask:
    """Tell cells that have the label that most of their code have."""
    written = codes >= 0
    pairs = pd.Series(labels[written].astype(np.int64) * MOST_CODES + codes[written]).value_counts().index.to_numpy()
    pairs = pairs[::-1]  # the most frequent has the last word
    usual = np.full(MOST_CODES, NOT_WRITTEN)
    usual[pairs % MOST_CODES] = pairs // MOST_CODES
    renamed: Mask = written & (usual[codes] == labels)
    return renamed
