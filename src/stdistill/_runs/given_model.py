"""The model that a function is given: itself, or the folder that it was saved to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stdistill.models import AlignmentModel, CompositionModel, NicheModel


def load_model(
    model: NicheModel | CompositionModel | AlignmentModel | str | Path,
) -> NicheModel | CompositionModel | AlignmentModel:
    """Return a model that says something of a slide, or load that of a folder."""
    from stdistill.models import AlignmentModel, CompositionModel, NicheModel, load

    kinds = NicheModel, CompositionModel, AlignmentModel
    if isinstance(model, kinds):
        return model
    if not isinstance(model, str | Path):
        msg = f"Expected a model, or the folder of one, found {type(model).__name__}."
        raise TypeError(msg)
    loaded = load(model)
    if not isinstance(loaded, kinds):
        expected = ", ".join(kind.kind for kind in kinds)
        msg = f"{model} holds a model of the kind {loaded.kind!r}: expected one of {expected}."
        raise ValueError(msg)
    return loaded
