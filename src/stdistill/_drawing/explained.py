"""Whether what was explained are the niches that a table holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.labels import NICHE_SUFFIX

if TYPE_CHECKING:
    from anndata import AnnData

    from stdistill.models.explanation.result import Explanation

STUDENTS = "student"
"""Keys of students begin so, unless the user names them otherwise."""


def warn_of_other_niches(table: AnnData, explanation: Explanation, cells: Iterable[str], key: str | None) -> None:
    """Warn when niches of a table are of another model than was explained, or go by other names.

    Parameters
    ----------
    table, explanation
        Of one slide.
    cells
        Names of explained cells that are drawn.
    key
        The column of niches. `None`: that of the explained model, where there is one, else those of students.
    """
    if explanation.model is None:
        return
    models = _models(table)
    of_it = [name for name, found in models.items() if explanation.model in found]
    asked = [name for name in models if name.startswith(STUDENTS)] if key is None else [key]
    if key is None and of_it:
        asked = of_it
    if any(models.get(name) for name in asked) and not set(asked) & set(of_it):
        columns = " and ".join(f".obs[{name!r}]" for name in asked)
        warn(
            f"The explanation is of another model than the niches in {columns}: of one that was fitted before, or goes "
            "by another key. It tells what decides its niches, not these. Run sd.tl.explain again with the model of "
            "these."
        )
        return
    for name in set(asked) & set(of_it):
        _warn_of_other_names(table, explanation, cells, name)


def _models(table: AnnData) -> dict[str, set[str]]:
    """Return the columns of niches that are known to be of models, and which these are."""
    models = {}
    for name in map(str, table.obs.columns):
        column = f"{name.removesuffix(NICHE_SUFFIX)}{schema.MODEL_SUFFIX}"
        if name.endswith(NICHE_SUFFIX) and column in table.obs:
            models[name] = set(table.obs[column].dropna().astype(str))
    return models


def _warn_of_other_names(table: AnnData, explanation: Explanation, cells: Iterable[str], key: str) -> None:
    """Warn when explained cells are in other niches than the model said: they were renamed, merged or edited."""
    there = explanation.cells.index.intersection([str(cell) for cell in cells]).intersection(table.obs_names)
    said, found = explanation.cells.loc[there, "niche"].astype(str), table.obs.loc[there, key]
    other = found.notna() & (found.astype(str) != said)
    if other.any():
        cell = there[other][0]
        warn(
            f"{other.sum()} of the {len(there)} explained cells are in another niche in .obs[{key!r}] than the model "
            f"says, such as {cell!r}: {found[cell]!r} here, {said[cell]!r} in the explanation. Niches were renamed or "
            "edited since the model wrote them; the explanation speaks of niches by the model's names."
        )
