"""Curves of how stable niches are for each number of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from anndata import AnnData

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import MISSING, Palette, palette_colors
from stdistill._drawing.matrix import check_frame
from stdistill._measures.stability import COLUMNS
from stdistill._table import schema
from stdistill._table.checks import get_table
from stdistill._table.records import read_record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

LINES = {"ari_runs": "between runs", "ari_neighbors": "with neighbouring k"}
PANELS = ("stability", "occupied niches")


def choose_k(
    data: pd.DataFrame | AnnData | SpatialData,
    *,
    palette: Palette | None = None,
    title: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    table_key: str = schema.TABLE,
) -> AxesOrList | None:
    """Draw how stable the niches are for each k, and how many of them are occupied.

    On the left the mean agreement between the runs of a k, with the span from the least to the largest, and with the
    runs of the k beside it. On the right the mean number of occupied niches, and the line on which all are.

    Parameters
    ----------
    data
        What :func:`stdistill.tl.choose_k` returned, or the table or SpatialData that it was called with.
    palette
        Two colours, of the agreement between runs and with neighbouring k, in this order or under their names
        ``"between runs"`` and ``"with neighbouring k"``.
    title, ax, save, show, table_key
        As of :func:`stdistill.pl.niches`; two titles and axes.

    Returns
    -------
    `None` when the figure was shown; else a list of the two axes.

    Raises
    ------
    KeyError
        When the table is not there, :func:`stdistill.tl.choose_k` was not run on it, or the palette lacks a name.
    TypeError
        When `data` is something else.
    ValueError
        When the frame has other columns or no row, or there are fewer axes, titles or colours than needed.

    Notes
    -----
    The measures and the picture are our choice.

    Examples
    --------
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> stability = pd.DataFrame({"k": [5, 10, 15], "ari_runs": [0.6, 0.8, 0.5], "ari_neighbors": [0.5, 0.6, 0.5]})
    >>> stability[["ari_runs_min", "ari_runs_max"]] = [[0.5, 0.7], [0.7, 0.9], [0.4, 0.6]]
    >>> stability["occupied_niches"] = [5.0, 10.0, 14.0]
    >>> axes = sd.pl.choose_k(stability, save="choose_k.png")
    """
    from matplotlib.ticker import MaxNLocator

    if not isinstance(data, pd.DataFrame):
        record = read_record(get_table(data, table_key), schema.CHOOSE_K)
        if not record:
            msg = f'There is no .uns["{schema.RECORD}"]["{schema.CHOOSE_K}"]: run sd.tl.choose_k first.'
            raise KeyError(msg)
        data = pd.DataFrame({column: record[column] for column in COLUMNS})
    check_frame(data, COLUMNS, "sd.tl.choose_k")
    colors = palette_colors(palette, list(LINES.values()))
    titles = make_titles(title, PANELS)
    axes = make_axes(len(PANELS), ax=ax, panel_size=(4.2, 3.0))
    stability, occupied = axes
    stability.fill_between(data["k"], data["ari_runs_min"], data["ari_runs_max"], color=colors[0], alpha=0.2, lw=0)
    for (column, label), color in zip(LINES.items(), colors, strict=True):
        stability.plot(data["k"], data[column], color=color, marker=".", label=label)
    stability.set(ylabel="adjusted Rand index", title=titles[0])
    stability.legend(frameon=False, fontsize="small")
    occupied.plot(data["k"], data["k"], color=MISSING, zorder=0, label="all k niches")
    occupied.plot(data["k"], data["occupied_niches"], color=colors[0], marker=".")
    occupied.set(ylabel="mean of the runs", title=titles[1])
    occupied.legend(frameon=False, fontsize="small")
    for panel in axes:
        panel.set_xlabel("k")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.spines[["top", "right"]].set_visible(False)
    return finish(axes, ax=ax, save=save, show=show)
