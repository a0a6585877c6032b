"""What is trained: the niche network and its card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stdistill.models.niche.model import NicheModel

__all__ = ["NicheModel"]


def __getattr__(name: str) -> Any:
    """Import the model, and torch with it, when it is first used."""
    if name == "NicheModel":
        from stdistill.models.niche.model import NicheModel

        return NicheModel
    msg = f"module 'stdistill.models' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
