"""Whether what is explained is what the table shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from anndata import AnnData

from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.labels import NICHE_SUFFIX

if TYPE_CHECKING:
    from stdistill.models.explanation.result import Explanation


def warn_of_other_model(table: AnnData, keys: Iterable[str], explanation: Explanation) -> None:
    """Warn when the explained niches are those of none of these columns: of another model, whose niches are others."""
    columns = {key: f"{key.removesuffix(NICHE_SUFFIX)}{schema.MODEL_SUFFIX}" for key in keys}
    models = {key: set(table.obs[column].dropna()) for key, column in columns.items() if column in table.obs}
    known = set().union(*models.values())
    if explanation.model is not None and known and explanation.model not in known:
        found = ", ".join(f".obs[{key!r}]" for key in models)
        warn(
            f"The explanation is of another model than the niches in {found}: of one that was fitted before, or goes "
            "by another key. What decides its niches is shown, not what decides these. Run sd.tl.explain again with "
            "the model of these."
        )
