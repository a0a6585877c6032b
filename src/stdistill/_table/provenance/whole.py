"""Whether a table holds a slide as it was when its features were computed: what a mean of all its cells is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stdistill._support.warn import warn
from stdistill._table.libraries import find_library_key
from stdistill._table.records import read_record

if TYPE_CHECKING:
    from anndata import AnnData

WHOLE = 0.9
"""Share of the cells that a slide may be left with and count as whole (our choice): a few are filtered out often."""


def warn_of_other_cells(tables: Sequence[AnnData], use_rep: str, library_key: str | None) -> None:
    """Warn where features are brought to the mean of what is no whole slide, as far as their records tell.

    Of slides that are named in a table nothing is known one by one.
    """
    for table in tables:
        _warn_of_other_cells(table, use_rep, library_key)


def warn_of_part(table: AnnData, use_rep: str) -> None:
    """Warn that what is said of a slide is said of a part of it, such as the cells that are trusted."""
    n_cells = read_record(table, "embed_he", use_rep).get("n_cells")
    if _is_part(table, n_cells):
        warn(
            f"The table has {table.n_obs} cells, and .obsm[{use_rep!r}] was computed of {n_cells}: cells were taken "
            "away since. The verdict is of those that are left; where these were chosen, as by "
            ".obs['student_trusted'], it says nothing of the slide. Judge the slide with all of its cells."
        )


def _is_part(table: AnnData, n_cells: Any) -> bool:
    return n_cells is not None and table.n_obs < WHOLE * int(n_cells)


def _warn_of_other_cells(table: AnnData, use_rep: str, library_key: str | None) -> None:
    record = read_record(table, "embed_he", use_rep)
    if not record or find_library_key(table, library_key) is not None:
        return
    n_cells = record.get("n_cells")
    if _is_part(table, n_cells):
        warn(
            f"The table has {table.n_obs} cells, and .obsm[{use_rep!r}] was computed of {n_cells}: it is a part of a "
            'slide. The model brings features to the mean of the slide (standardize="slide"), and a part has another: '
            "predict the whole slide, and take the part afterwards."
        )
    elif n_cells is None or table.n_obs > int(n_cells):
        warn(
            f"What is recorded of .obsm[{use_rep!r}] is what several tables have in common, and nothing tells their "
            'slides apart: the model brings features to the mean of each slide (standardize="slide"), here to that of '
            "all cells together. Name the column of .obs that says which slide a cell is on, library_key=."
        )
