"""How niches differ between groups of slides, as a forest plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles, write_beside
from stdistill._drawing.colors import Palette, palette_colors
from stdistill._drawing.matrix import check_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("niche", "effect", "lower", "upper", "p", "q")
ROW_IN, FRAME_IN = 0.3, 1.5
"""Height of a niche, and of what is above and below them, in inches."""
WIDTH_IN = 5.6
PLAIN = "#3a3a3a"
LEVEL = 0.05
"""False discovery rate up to which a mark is filled."""


def compare_niches(
    result: pd.DataFrame,
    *,
    sort: bool = True,
    palette: Palette | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> AxesOrList | None:
    """Draw the effect on each niche with its interval; filled where the false discovery rate is at most 0.05.

    Parameters
    ----------
    result
        What :func:`stdistill.tl.compare_niches` returned.
    sort
        Whether the largest effect comes first; else niches are in their order.
    palette
        Colours of the niches, in their order or by name; by default all are dark grey.
    title, ax, save, show
        As of :func:`stdistill.pl.niches`.

    Returns
    -------
    `None` when the figure was shown; else the axes.

    Raises
    ------
    KeyError
        When the palette lacks a niche.
    TypeError
        When `result` is no frame.
    ValueError
        When `result` lacks a column or rows, or there are fewer colours than niches.

    Notes
    -----
    A niche that is on no slide has its name alone. Effects are of the centred log-ratio: 0.69 is twice as much relative
    to the mean of all niches, as the upper axis says.

    Examples
    --------
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> result = pd.DataFrame({"niche": ["tumour", "stroma"], "effect": [0.8, -0.8], "lower": [0.3, -1.3]})
    >>> result = result.assign(upper=[1.3, -0.3], p=[0.004, 0.004], q=[0.004, 0.004])
    >>> ax = sd.pl.compare_niches(result, save="compare_niches.png")
    """
    check_frame(result, COLUMNS, "sd.tl.compare_niches")
    names = list(map(str, result["niche"]))
    colors = [PLAIN] * len(names) if palette is None else palette_colors(palette, names)
    rows = result.assign(color=colors).reset_index(drop=True)
    if sort:
        rows = rows.sort_values("effect", ascending=False, kind="stable", na_position="last")
    (text,) = make_titles(title, [_title(result.attrs)])
    axes = make_axes(1, ax=ax, panel_size=(WIDTH_IN, FRAME_IN + ROW_IN * len(rows)))
    _draw(axes[0], rows, _label(result.attrs), text)
    return finish(axes, ax=ax, save=save, show=show)


def _title(attrs: dict[Any, Any]) -> str:
    """Name what is compared, where the frame still knows it."""
    if not attrs.get("group_key"):
        return ""
    groups = attrs.get("groups")
    return f"{groups[1]} against {groups[0]}" if groups else f"per unit of {attrs['group_key']}"


def _label(attrs: dict[Any, Any]) -> str:
    interval = f", {attrs['confidence']:.0%} interval" if "confidence" in attrs else ""
    return f"difference of the centred log-ratio{interval}\nfilled: false discovery rate q ≤ {LEVEL}"


def _draw(ax: Axes, rows: pd.DataFrame, label: str, title: str) -> None:
    effect, lower, upper, p, q = rows[["effect", "lower", "upper", "p", "q"]].to_numpy(dtype=np.float64).T
    ax.axvline(0, color="#999999", linewidth=0.8, zorder=0)
    for place, color in enumerate(rows["color"]):
        if np.isnan(effect[place]):
            continue
        ax.plot([lower[place], upper[place]], [place, place], color=color, linewidth=1.6, solid_capstyle="butt")
        filled = color if q[place] <= LEVEL else "white"
        ax.plot(effect[place], place, marker="o", markersize=6.5, color=color, markerfacecolor=filled)
        _write_beside(ax, place, _number(p[place]), _number(q[place]))
    _write_beside(ax, -0.75, "p", "q")
    ax.set_yticks(range(len(rows)), rows["niche"].astype(str))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    widest = np.nanmax(np.abs([lower, upper]), initial=0.1)
    ax.set_xlim(-1.08 * widest, 1.08 * widest)
    ax.set(xlabel=label, title=title)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    _name_ratios(ax)


def _write_beside(ax: Axes, place: float, *texts: str) -> None:
    """Write two columns to the right of the axes."""
    for text, right_pt in zip(texts, (40, 82), strict=True):
        write_beside(ax, place, text, right_pt, fontsize="small")


def _name_ratios(ax: Axes) -> None:
    """Say on top what the effects are as ratios."""
    limit = ax.get_xlim()[1]
    steps = [2.0**power for power in range(-10, 11)]
    every = max(1, round(2 * limit / np.log(2) / 8))
    ratios = [ratio for power, ratio in enumerate(steps, -10) if power % every == 0 and abs(np.log(ratio)) <= limit]
    top = ax.secondary_xaxis("top")
    top.set_xticks(np.log(ratios), [f"×{ratio:g}" if ratio >= 1 else f"×1/{1 / ratio:g}" for ratio in ratios])
    top.tick_params(labelsize="small", length=2)
    top.spines["top"].set_visible(False)


def _number(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.4f}" if p >= 0.0001 else "<0.0001"
