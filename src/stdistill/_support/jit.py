"""Compiled kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile as :func:`numba.njit` does, also where there is nowhere to write its cache (read-only installs)."""

    def compile_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            kernel: Callable[..., Any] = numba.njit(**options)(function)
        except RuntimeError:
            kernel = numba.njit(**{**options, "cache": False})(function)
        return kernel

    return compile_kernel
