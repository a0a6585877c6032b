"""Distil spatial transcriptomics into histology: tissue niches from H&E alone."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stdistill import datasets, encoders, get, io, models, pl, pp, results, tl

__all__ = ["__version__", "datasets", "encoders", "get", "io", "models", "pl", "pp", "results", "tl"]

__version__ = version("stdistill")


def __getattr__(name: str) -> Any:
    """Import a namespace when it is first used, so that ``import stdistill`` stays light."""
    if name in __all__:
        return import_module(f"stdistill.{name}")
    msg = f"module 'stdistill' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
