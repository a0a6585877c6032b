"""Where plots are drawn and what becomes of the figure: scanpy's manners, the same for all plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stdistill._support.checks import check_integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AxesOrList: TypeAlias = "Axes | list[Axes]"

DPI = 200
"""Of saved figures, and of what is rasterised in them."""


def make_axes(
    n_panels: int,
    *,
    ax: Axes | Sequence[Axes] | None,
    panel_size: tuple[float, float],
    ncols: int | None = None,
) -> list[Axes]:
    """Return the axes to draw in: those given, else the panels of a new figure.

    Parameters
    ----------
    n_panels
        Number of panels.
    ax
        What the user gave: axes, or any number of them in a list or an array, as `pyplot.subplots` returns them.
    panel_size
        Width and height of a panel of a new figure, in inches.
    ncols
        Panels in a row, by default all.
    """
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    if ncols is not None:
        check_integer(ncols, "ncols", minimum=1)
    if ax is not None:
        axes: list[Axes] = list(np.array(ax, dtype=object).flat)
        for one in axes:
            if not isinstance(one, Axes):
                msg = f"ax holds {type(one).__name__}; expected the axes of matplotlib, or a list of them."
                raise TypeError(msg)
        if len(axes) != n_panels:
            msg = f"ax holds {len(axes)} axes; there are {n_panels} panels to draw. Give one for each, in their order."
            raise ValueError(msg)
        return axes

    ncols = n_panels if ncols is None else min(ncols, n_panels)
    nrows = -(-n_panels // ncols)
    size = panel_size[0] * ncols, panel_size[1] * nrows
    _, grid = plt.subplots(nrows, ncols, figsize=size, squeeze=False, layout="compressed", dpi=100)
    panels: list[Axes] = list(grid.flat)
    for empty in panels[n_panels:]:
        empty.remove()
    return panels[:n_panels]


def make_titles(title: str | Sequence[str] | None, defaults: Sequence[str]) -> list[str]:
    """Return a title for each panel: those given, else the defaults."""
    if title is None:
        return list(defaults)
    titles = [title] if isinstance(title, str) else list(title)
    if len(titles) != len(defaults):
        msg = f"title holds {len(titles)} titles; there are {len(defaults)} panels: {list(defaults)}."
        raise ValueError(msg)
    return titles


def write_beside(
    ax: Axes, place: float, text: str, right_pt: float, *, fontsize: str, color: str | None = None
) -> None:
    """Write to the right of the axes at a place of their y, the right edge of the text so many points from them."""
    ax.annotate(
        text,
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(right_pt, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=fontsize,
        color=color,
        annotation_clip=False,
    )


def finish(
    axes: list[Axes], *, ax: Axes | Sequence[Axes] | None, save: str | Path | None, show: bool | None
) -> AxesOrList | None:
    """Save and show the figure as the user asked.

    Returns
    -------
    `None` when it was shown; else the axes, one or a list of several.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    figure = axes[0].figure.figure  # the whole one, where the axes are a subfigure's
    if save is not None and isinstance(figure, Figure):
        try:
            figure.savefig(Path(save).expanduser(), dpi=DPI, bbox_inches="tight")
        finally:
            if ax is None and show is None:
                plt.close(figure)  # else a loop over many slides keeps all of their figures
    if show or (show is None and ax is None and save is None):
        plt.show()
        return None
    return axes[0] if len(axes) == 1 else axes
