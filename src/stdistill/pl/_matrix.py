"""Frames and matrices that plots draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stdistill.pl._colors import MISSING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHORT = 2
"""Names of so many letters are not turned."""


def check_frame(frame: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """Raise unless `frame` has rows and the columns of what `source` returns."""
    if not isinstance(frame, pd.DataFrame):
        msg = f"Expected the frame that {source} returns, found {type(frame).__name__}."
        raise TypeError(msg)
    missing = [column for column in columns if column not in frame]
    if missing or not len(frame):
        msg = (
            f"Expected the frame that {source} returns; the one given has {len(frame)} rows and lacks the columns "
            f"{missing}, it has {list(map(str, frame.columns))}."
        )
        raise ValueError(msg)


def draw_matrix(ax: Axes, matrix: pd.DataFrame, *, cmap: str, label: str, highest: float, title: str) -> None:
    """Draw a matrix in colours from 0 to `highest`, with its names; what is missing is grey."""
    import matplotlib as mpl

    colors = mpl.colormaps[cmap].with_extremes(bad=MISSING)
    image = ax.imshow(matrix.to_numpy(dtype=np.float64), cmap=colors, vmin=0, vmax=highest, aspect="equal")
    names = matrix.columns.astype(str)
    rotation = 90 if names.str.len().max() > SHORT else 0  # 6 and 9 are not told apart when they lie
    ax.set_xticks(range(matrix.shape[1]), names, rotation=rotation, fontsize="small")
    ax.set_yticks(range(matrix.shape[0]), matrix.index.astype(str), fontsize="small")
    ax.set(xlabel=matrix.columns.name or "", ylabel=matrix.index.name or "", title=title)
    ax.tick_params(length=0)
    ax.figure.colorbar(image, ax=ax, shrink=0.6, label=label)
