"""Numbers that stand for cells by what is known of them: they are the same in any table, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._support.arrays import Floats

CHUNK = 4_000_000
"""Numbers that are hashed at once."""

Marks = npt.NDArray[np.int64]


def mark_cells(features: npt.NDArray[Any], centers: Floats) -> Marks:
    """Give each cell (n,) a number by its features (n, d) and its centre (n, 2) in µm, the same in any table.

    Both count: features alone are equal for many cells where there are few of them, centres alone on a grid. They are
    rounded, so that other types of numbers make no other cells.
    """
    return _join(_mark_rows(features, _float16_bits), centers)


def mark_counts(counts: Any, centers: Floats | None) -> Marks:
    """Give each cell (n,) a number by its counts (n, genes), CSR or an array, and by its centre, if it has one."""
    return _join(_mark_rows(counts, lambda part: part.astype(np.int64).astype(np.uint64)), centers)


def fingerprint_rows(features: npt.NDArray[Any]) -> str:
    """Tell features (n, d) from others, in whatever order the cells are."""
    return f"{int(_mark_rows(features, _float16_bits).sum(dtype=np.uint64)):016x}"


def short_marks(features: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Return marks of rows that take little room, and are the same in floating point, as where some are missing."""
    return _shorten(_mark_rows(features, _float16_bits))


def short_marks_of_centers(centers: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Return such marks of centres, which take more digits than features."""
    return _shorten(_mark_rows(centers, _float32_bits))


def _shorten(marks: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    return (marks >> np.uint64(32)).astype(np.uint32)


def _mark_rows(matrix: Any, bits: Callable[[Any], Any]) -> npt.NDArray[np.uint64]:
    """Hash each row: its bits are multiplied by odd numbers and added up modulo 2⁶⁴ (our choice)."""
    n, width = matrix.shape
    odd = pd.util.hash_array(np.arange(1, width + 1, dtype=np.uint64)) | np.uint64(1)
    step = max(1, CHUNK // max(1, width))
    sums = [bits(matrix[start : start + step]) @ odd for start in range(0, n, step)]
    return pd.util.hash_array(np.concatenate([np.zeros(0, dtype=np.uint64), *sums]))


def _join(marks: npt.NDArray[np.uint64], centers: Floats | None) -> Marks:
    joint = marks if centers is None else marks + np.uint64(3) * _mark_rows(centers, _float32_bits)
    return joint.view(np.int64)


def _float16_bits(part: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore", under="ignore"):
        return np.ascontiguousarray(part, dtype=np.float16).view(np.uint16).astype(np.uint64)


def _float32_bits(part: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(part, dtype=np.float32).view(np.uint32).astype(np.uint64)
