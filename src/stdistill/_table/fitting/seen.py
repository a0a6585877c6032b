"""Which cells of a table a model was fitted on, by all that knows of it: the table, the model, and the H&E."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from stdistill._support.arrays import Floats, Mask
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.fitting.origin import images_of
from stdistill._table.marks.cells import mark_cells
from stdistill._table.provenance.results import fitted_here, fitted_unrecorded

if TYPE_CHECKING:
    from stdistill.models import AlignmentModel, CompositionModel, NicheModel


def find_fitted(
    table: AnnData,
    model: NicheModel | CompositionModel | AlignmentModel,
    features: Floats,
    centers: Floats,
    *,
    key_added: str,
    use_rep: str,
) -> tuple[Mask | None, str | None]:
    """Return the cells that a model was fitted on, `None` when nobody knows, and the fingerprint of its teacher.

    The table says it of a model that was fitted to it. The model knows its cells where the table does not: in a copy
    that was made before, or when another model has its place in the table. Other cells on an H&E of the training show
    what it was fitted on, too, though nobody knows which of them: all count then.
    """
    fitted, teacher = fitted_here(table, model.sha256)
    if fitted is None:
        fitted = fitted_unrecorded(table, key_added)
    if model.seen is not None:
        again = np.isin(mark_cells(features, centers), model.seen)
        fitted = again if fitted is None else fitted | again
    if fitted is not None and fitted.any():
        return fitted, teacher
    shared = set(images_of(table, use_rep)) & set(model.card.images or [])
    if not shared:
        return fitted, teacher
    warn(
        "The model was trained on this very H&E, with other cells or features than those of this table: which of them "
        f"show what it was trained on cannot be told. All count as fitted (.obs[{key_added + schema.FITTED_SUFFIX!r}]) "
        "and none as a test. Predict in the table of the training to know it of each cell."
    )
    return np.ones(table.n_obs, dtype=bool), teacher
