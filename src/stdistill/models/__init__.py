"""What is trained: niche and composition models and alignments, saved and loaded."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stdistill.models.alignment.card import AlignmentCard
    from stdistill.models.alignment.model import AlignmentModel
    from stdistill.models.composition.card import CompositionCard
    from stdistill.models.composition.model import CompositionModel
    from stdistill.models.niche.card import ModelCard
    from stdistill.models.niche.model import NicheModel
    from stdistill.models.saved import load

__all__ = ["AlignmentCard", "AlignmentModel", "CompositionCard", "CompositionModel", "ModelCard", "NicheModel", "load"]

_WHERE = {
    "AlignmentCard": "stdistill.models.alignment.card:AlignmentCard",
    "AlignmentModel": "stdistill.models.alignment.model:AlignmentModel",
    "CompositionCard": "stdistill.models.composition.card:CompositionCard",
    "CompositionModel": "stdistill.models.composition.model:CompositionModel",
    "ModelCard": "stdistill.models.niche.card:ModelCard",
    "NicheModel": "stdistill.models.niche.model:NicheModel",
    "load": "stdistill.models.saved:load",
}


def __getattr__(name: str) -> Any:
    """Import a model, and torch with it, when it is first used."""
    if name in _WHERE:
        return resolve_name(_WHERE[name])
    msg = f"module 'stdistill.models' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
