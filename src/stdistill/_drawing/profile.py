"""The panels of a niche's card: cell types, marker genes, nuclei and neighbours of one niche."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stdistill._drawing.axes import write_beside
from stdistill._measures.profiles.text import say_measure, say_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SLIDE = "#6b6b6b"
"""What is of the slide."""
ROWS = {"cell_types": 8, "markers": 8, "neighbors": 8}
"""Rows that are shown, at most."""


def draw_cell_types(ax: Axes, rows: pd.DataFrame, color: str) -> None:
    """Draw the commonest types as bars, the slide's shares as ticks; enrichment and numbers of cells beside them."""
    rows = rows.sort_values("share", ascending=False, kind="stable").head(ROWS["cell_types"])
    places = np.arange(len(rows))
    ax.barh(places, rows["share"], color=color, height=0.7)
    for place, share in zip(places, rows["slide_share"], strict=True):
        ax.plot([share, share], [place - 0.42, place + 0.42], color="black", linewidth=1.6, solid_capstyle="butt")
    _write_right(ax, list(map(_signed, rows["log2_enrichment"])), 40, "log₂")
    _write_right(ax, [f"{each:,}" for each in rows["n_cells"]], 84, "cells")
    _finish(ax, rows["cell_type"], "share of the niche's cells\n(black: of the slide's)", "Cell types")
    _percent(ax)


def draw_markers(ax: Axes, rows: pd.DataFrame, color: str) -> None:
    """Draw in how many cells inside and outside each gene is, and the fold change beside it."""
    rows = rows.head(ROWS["markers"])
    for place, (inside, outside) in enumerate(zip(rows["share_in"], rows["share_out"], strict=True)):
        ax.plot([outside, inside], [place, place], color="#c8c8c8", linewidth=2.5, zorder=1, solid_capstyle="butt")
        ax.plot(outside, place, "o", color=SLIDE, markerfacecolor="white", markersize=5.5)
        ax.plot(inside, place, "o", color=color, markersize=6.5)
    _write_right(ax, list(map(_signed, rows["log2_fold_change"])), 38, "log₂ FC")
    _finish(ax, rows["gene"], "share of cells that have it\n(filled: in the niche, open: outside)", "Marker genes")
    ax.set_yticks(range(len(rows)), rows["gene"].astype(str), style="italic", fontsize="small")
    _percent(ax)


def draw_morphology(ax: Axes, rows: pd.DataFrame, color: str) -> None:
    """Draw median and quartiles of each measure on a scale on which the slide's quartiles are 1 apart."""
    rows = rows[rows["slide_upper"] > rows["slide_lower"]]
    spread = (rows["slide_upper"] - rows["slide_lower"]).to_numpy(np.float64)
    for part, shade, width in (("slide_", "#dadada", 11.0), ("", color, 3.0)):
        low, high = ((rows[f"{part}{end}"] - rows["slide_median"]) / spread for end in ("lower", "upper"))
        ax.hlines(np.arange(len(rows)), low, high, color=shade, linewidth=width)
    ax.plot(rows["difference"], np.arange(len(rows)), "o", color=color, markersize=7, markeredgecolor="white")
    ax.axvline(0, color=SLIDE, linewidth=0.8, zorder=0)
    names = [
        f"{say_name(each['measure'])}\n{say_measure(each['measure'], each['median'])}"
        for each in rows.to_dict("records")
    ]
    _finish(ax, names, "difference from the slide's median\nin its interquartile ranges (grey)", "Morphology")


def draw_neighbors(ax: Axes, rows: pd.DataFrame, colors: Mapping[str, str]) -> None:
    """Draw which other niches the neighbours of the niche's cells are in, and the enrichment beside it."""
    rows = rows[rows["n_pairs"] > 0].head(ROWS["neighbors"])
    ax.barh(np.arange(len(rows)), rows["border_share"], color=[colors[each] for each in rows["neighbor"]], height=0.7)
    _write_right(ax, list(map(_signed, rows["log2_enrichment"])), 34, "log₂")
    _finish(ax, rows["neighbor"], "share of its neighbours\nin other niches", "Borders on")
    _percent(ax)


def _finish(ax: Axes, names: Sequence[str] | pd.Series, label: str, title: str) -> None:
    n = len(names)
    ax.set_yticks(range(n), [_shorten(str(name)) for name in names], fontsize="small")
    ax.set_ylim(max(n, 3) - 0.5, -0.5)
    ax.set_xlabel(label, fontsize="small")
    ax.set_title(title, loc="left", fontsize="medium", fontweight="bold")
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize="small")
    ax.spines[["top", "right", "left"]].set_visible(False)


def _signed(value: float) -> str:
    """Write a number with its sign, of which 0 has none."""
    return f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0.0"


def _shorten(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"


def _percent(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _write_right(ax: Axes, texts: Sequence[str], right_pt: float, head: str) -> None:
    """Write a column to the right of the axes, its right edge so many points from them."""
    for place, text in enumerate([head, *texts], -1):
        is_head = text is head
        size, color = ("x-small", SLIDE) if is_head else ("small", "black")
        write_beside(ax, -0.75 if is_head else place, text, right_pt, fontsize=size, color=color)
