"""Bars of the agreement of methods with a reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import Palette, palette_colors
from stdistill._drawing.matrix import check_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = {"ari": "ARI", "nmi": "NMI"}


def agreement(
    result: pd.DataFrame,
    *,
    palette: Palette | None = None,
    title: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> AxesOrList | None:
    """Draw the agreement of each method with the reference, one panel per group of the split.

    Parameters
    ----------
    result
        What :func:`stdistill.tl.agreement` returned.
    palette
        Two colours, of the adjusted Rand index and of the normalised mutual information, in this order or under their
        names ``"ARI"`` and ``"NMI"``.
    title, ax, save, show
        As of :func:`stdistill.pl.niches`; a panel's title is its group.

    Returns
    -------
    `None` when the figure was shown; else the axes, or a list of them when there are several panels.

    Raises
    ------
    KeyError
        When the palette lacks a measure.
    TypeError
        When `result` is no frame.
    ValueError
        When `result` has other columns or no row, or there are fewer axes, titles or colours than needed.

    Notes
    -----
    The measures of Hizmi et al. 2026, table 1; the picture is our choice. An agreement below 0, worse than chance, is a
    bar to the left.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> obs = pd.DataFrame({"teacher_niche": list("aabbcc"), "student_niche": list("112233")}, dtype="category")
    >>> obs.index = obs.index.astype(str)
    >>> result = sd.tl.agreement(ad.AnnData(np.zeros((6, 1)), obs=obs))
    >>> ax = sd.pl.agreement(result, save="agreement.png")
    """
    check_frame(result, ("method", "split", *MEASURES), "sd.tl.agreement")
    colors = palette_colors(palette, list(MEASURES.values()))
    groups = list(dict.fromkeys(result["split"]))
    titles = make_titles(title, groups)
    n_methods = result["method"].nunique()
    axes = make_axes(len(groups), ax=ax, panel_size=(4.5, 1.2 + 0.6 * n_methods))
    for panel, group, text in zip(axes, groups, titles, strict=True):
        _draw(panel, result[result["split"] == group], colors, text)
    handles, labels = axes[0].get_legend_handles_labels()
    axes[-1].legend(handles, labels, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return finish(axes, ax=ax, save=save, show=show)


def _draw(ax: Axes, rows: pd.DataFrame, colors: Sequence[str], title: str) -> None:
    places = np.arange(len(rows))
    for number, (measure, name) in enumerate(MEASURES.items()):
        bars = ax.barh(places + 0.4 * number - 0.2, rows[measure], height=0.36, color=colors[number], label=name)
        ax.bar_label(bars, fmt="%.2f", padding=3, fontsize="small")
    ax.set(yticks=places, yticklabels=rows["method"], title=title, xlim=(min(0.0, ax.get_xlim()[0]), 1.12))
    ax.set_xticks([tick for tick in ax.get_xticks() if tick <= 1])
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
