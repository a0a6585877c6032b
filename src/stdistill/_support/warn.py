"""Warnings that point at the user's line."""

from __future__ import annotations

import inspect
import warnings


def warn(message: str) -> None:
    """Warn at the line that called into stdistill, however deep in the package the cause was found."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "stdistill":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
