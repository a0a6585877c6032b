"""Correlations of predicted abundances with the true ones, type by type."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import Palette, palette_colors
from stdistill._drawing.legend import draw_legend
from stdistill._drawing.matrix import check_frame
from stdistill._measures.abundances.scores import ALL_TYPES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_IN = 6.5
"""Width of a panel with the names of types and the legend, in inches."""
ROW_IN = 0.24
"""Height of the row of a type, in inches."""
SPREAD = 0.5
"""Of the dots of a type, as a share of its row."""
OF_CROSS_VALIDATION = {"method": "key", "group": "cells"}
"""What these columns are called in the frame of groups that were left out."""


def abundance_scores(
    scores: pd.DataFrame,
    *,
    palette: Palette | None = None,
    title: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> AxesOrList | None:
    """Draw the correlation (CC) of each type, a dot for each key, with a line at the mean; a panel per group of cells.

    Types are in the order of their mean over the keys, the best on top. A cross at the left edge stands for a type
    whose correlation is not defined.

    Parameters
    ----------
    scores
        What :func:`stdistill.tl.abundance_scores` returned, or :func:`stdistill.tl.cross_validate`, whose methods are
        drawn as keys, and whose groups have a panel each.
    palette
        Colours of the keys, in their order or by name.
    title, ax, save, show
        As of :func:`stdistill.pl.niches`; a panel's title is its group of cells.

    Returns
    -------
    `None` when the figure was shown; else the axes, or a list of them when there are several panels.

    Raises
    ------
    KeyError
        When the palette lacks a key.
    TypeError
        When `scores` is no frame.
    ValueError
        When `scores` has other columns or no row, or there are fewer axes, titles or colours than needed.

    Notes
    -----
    The measure of Sun, Zhu and Qiu 2025 (arXiv 2507.07013); the picture is our choice. The legend has the mean as of
    the row ``"all"``, over types and then over sections, and how many correlations are not in it because the prediction
    is constant.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> spots = ad.AnnData(np.zeros((50, 1)))
    >>> truth = pd.DataFrame(np.random.default_rng(0).dirichlet([1, 2, 3], 50), spots.obs_names, list("ABC"))
    >>> spots.obsm["truth"], spots.obsm["guess"] = truth, truth + np.random.default_rng(1).uniform(size=(50, 3))
    >>> for key in ("truth", "guess"):
    ...     sd.pp.abundances(spots, obsm_key=key, key_added=key)
    >>> scores = sd.tl.abundance_scores(spots, keys="guess", reference_key="truth")
    >>> ax = sd.pl.abundance_scores(scores, save="scores.png")
    >>> ax.get_xlabel()
    'CC'
    """
    if isinstance(scores, pd.DataFrame):
        scores = scores.rename(columns=OF_CROSS_VALIDATION)
    check_frame(scores, ("key", "cells", "type", "cc", "n_undefined"), "sd.tl.abundance_scores")
    keys = list(dict.fromkeys(scores["key"]))
    colors = dict(zip(keys, palette_colors(palette, keys), strict=True))
    groups = list(dict.fromkeys(scores["cells"]))
    titles = make_titles(title, groups)
    single = scores[scores["type"] != ALL_TYPES]
    order = single.groupby("type", sort=False)["cc"].mean().sort_values(ascending=False, kind="stable").index
    axes = make_axes(len(groups), ax=ax, panel_size=(PANEL_IN, 1.2 + ROW_IN * max(len(order), 4)))
    for panel, group, text in zip(axes, groups, titles, strict=True):
        _draw(panel, scores[scores["cells"] == group], order, colors)
        panel.set_title(text)
    low, high = (f(panel.get_xlim()[side] for panel in axes) for side, f in ((0, min), (1, max)))
    for panel in axes:
        panel.set_xlim(min(low, -0.05), min(max(high, 0.2), 1.02))
    return finish(axes, ax=ax, save=save, show=show)


def _draw(ax: Axes, rows: pd.DataFrame, order: pd.Index, colors: dict[str, str]) -> None:
    """Draw one group of cells."""
    offsets = np.linspace(-SPREAD / 2, SPREAD / 2, len(colors)) if len(colors) > 1 else np.zeros(1)
    ax.hlines(np.arange(len(order)), 0, 1, transform=ax.get_yaxis_transform(), color="#eeeeee", lw=1, zorder=0)
    ax.axvline(0, color="#bbbbbb", lw=1, zorder=0)
    handles: list[Any] = []
    for (key, color), offset in zip(colors.items(), offsets, strict=True):
        own = rows[rows["key"] == key]
        overall, single = own[own["type"] == ALL_TYPES], own[own["type"] != ALL_TYPES]
        if own.empty:
            continue
        n_undefined = int(overall["n_undefined"].sum())
        mean = overall["cc"].mean()
        label = f"{key}\nmean {mean:.3f}" + (f", {n_undefined} undefined" if n_undefined else "")
        places = order.get_indexer(pd.Index(single["type"])) + offset
        unknown = single["cc"].isna().to_numpy()
        handles += ax.plot(single["cc"][~unknown], places[~unknown], "o", ms=5, color=color, label=label)
        ax.axvline(mean, color=color, lw=1, ls="--", zorder=1)
        edge = ax.get_yaxis_transform()  # x as a share of the axes
        for place in places[unknown]:
            ax.plot(0.01, place, "x", ms=4, color=color, transform=edge)
    ax.set(xlabel="CC", yticks=np.arange(len(order)), yticklabels=order, ylim=(len(order) - 0.4, -0.6))
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    draw_legend(ax, handles)
