"""Frames and matrices that plots draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stdistill._support.arrays import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

LEVEL_LETTERS = 2
"""Names of so few letters are written level: 6 and 9 are not told apart when they lie."""


def check_frame(frame: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """Raise unless `frame` has rows and the columns of what `source` returns."""
    if not isinstance(frame, pd.DataFrame):
        msg = f"Expected the frame that {source} returns, found {type(frame).__name__}."
        raise TypeError(msg)
    missing = [column for column in columns if column not in frame]
    if missing or frame.empty:
        lacks = f"; it lacks the columns {missing}" if missing else ""
        msg = (
            f"Expected the frame that {source} returns; the one given has {len(frame)} rows and the columns "
            f"{list(map(str, frame.columns))}{lacks}."
        )
        raise ValueError(msg)


def cluster_order(likeness: pd.DataFrame) -> Rows:
    """Order the names of a symmetric matrix such that those that are alike stand beside each other.

    Average linkage, its leaves ordered so that neighbours are as alike as they can be; the diagonal plays no part, and
    what is missing counts as 0.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    n = len(likeness)
    if n < 3:
        return np.arange(n)
    values = np.nan_to_num(likeness.to_numpy(dtype=np.float64))
    np.fill_diagonal(values, values[~np.eye(n, dtype=bool)].max())
    order: Rows = leaves_list(
        linkage(squareform(values.max() - values, checks=False), "average", optimal_ordering=True)
    )
    return order


def matrix_size(matrix: pd.DataFrame) -> tuple[float, float]:
    """Return width and height of a panel in which the names of a matrix have room, in inches."""
    return 2.2 + 0.28 * matrix.shape[1], 1.8 + 0.28 * matrix.shape[0]


def draw_matrix(
    ax: Axes, matrix: pd.DataFrame, *, cmap: Colormap, label: str, highest: float, title: str, lowest: float = 0.0
) -> None:
    """Draw a matrix in colours from `lowest` to `highest`, with its names."""
    image = ax.imshow(matrix.to_numpy(dtype=np.float64), cmap=cmap, vmin=lowest, vmax=highest, aspect="equal")
    names = matrix.columns.astype(str)
    rotation = 90 if names.str.len().max() > LEVEL_LETTERS else 0
    ax.set_xticks(range(matrix.shape[1]), names, rotation=rotation, fontsize="small")
    ax.set_yticks(range(matrix.shape[0]), matrix.index.astype(str), fontsize="small")
    ax.set(xlabel=matrix.columns.name or "", ylabel=matrix.index.name or "", title=title)
    ax.tick_params(length=0)
    ax.figure.colorbar(image, ax=ax, shrink=0.6, label=label)
