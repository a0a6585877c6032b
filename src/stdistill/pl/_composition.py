"""Cell types of niches, as a heatmap or as bars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import Palette, find_colormap, palette_colors
from stdistill._drawing.legend import draw_legend, legend_width
from stdistill._drawing.matrix import check_frame, draw_matrix, matrix_size
from stdistill._support.checks import check_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS_IN = 4.7
"""Width of the bars with the names of the niches, in inches."""


def composition(
    result: pd.DataFrame,
    *,
    kind: Literal["heatmap", "bars"] = "heatmap",
    cmap: str = "viridis",
    palette: Palette | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> AxesOrList | None:
    """Draw the shares of the cell types in each niche.

    Parameters
    ----------
    result
        What :func:`stdistill.tl.composition` returned, niches × cell types.
    kind
        ``"heatmap"``, or ``"bars"``: one bar per niche, divided by cell type.
    cmap
        Colour map of the heatmap.
    palette
        Colours of the cell types in the bars, in their order or by name.
    title, ax, save, show
        As of :func:`stdistill.pl.niches`.

    Returns
    -------
    `None` when the figure was shown; else the axes.

    Raises
    ------
    KeyError
        When there is no such colour map, or the palette lacks a cell type.
    TypeError
        When `result` is no frame.
    ValueError
        When `result` is empty or holds no shares, `kind` is another, or there are fewer colours than cell types.

    Notes
    -----
    A niche without cells is grey in the heatmap, and has no bar.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> obs = pd.DataFrame({"niche": list("aabb"), "cell_type": list("TTTB")}, dtype="category")
    >>> obs.index = obs.index.astype(str)
    >>> result = sd.tl.composition(ad.AnnData(np.zeros((4, 1)), obs=obs), niche_key="niche", cell_type_key="cell_type")
    >>> ax = sd.pl.composition(result, kind="bars", save="composition.png")
    """
    shares = _read_shares(result)
    check_choice(kind, "kind", ("heatmap", "bars"))
    colormap = find_colormap(cmap)
    (text,) = make_titles(title, [""])
    if kind == "heatmap":
        axes = make_axes(1, ax=ax, panel_size=matrix_size(result))
        highest = float(np.nanmax(shares))
        draw_matrix(axes[0], result, cmap=colormap, label="share of cells", highest=highest, title=text)
    else:
        cell_types = list(map(str, result.columns))
        colors = palette_colors(palette, cell_types)
        axes = make_axes(1, ax=ax, panel_size=(BARS_IN + legend_width(cell_types), 1.2 + 0.28 * len(result)))
        _draw_bars(axes[0], result, colors, text)
    return finish(axes, ax=ax, save=save, show=show)


def _read_shares(result: pd.DataFrame) -> npt.NDArray[np.float64]:
    check_frame(result, (), "sd.tl.composition")
    if all(map(pd.api.types.is_numeric_dtype, result.dtypes)):
        shares: npt.NDArray[np.float64] = result.to_numpy(dtype=np.float64)
        sums = shares.sum(axis=1)
        known = ~np.isnan(sums)
        if known.any() and np.allclose(sums[known], 1):
            return shares
    msg = "The rows of the frame do not sum to 1: give the one that sd.tl.composition returns."
    raise ValueError(msg)


def _draw_bars(ax: Axes, result: pd.DataFrame, colors: list[str], title: str) -> None:
    shares = result.fillna(0.0).to_numpy(dtype=np.float64)
    starts = shares.cumsum(axis=1) - shares
    places = np.arange(len(result))
    for number, cell_type in enumerate(map(str, result.columns)):
        ax.barh(places, shares[:, number], left=starts[:, number], color=colors[number], label=cell_type, height=0.85)
    ax.set_yticks(places, result.index.astype(str))
    ax.set(xlim=(0, 1), xlabel="share of cells", ylabel=result.index.name or "", title=title)
    ax.set_ylim(len(result) - 0.5, -0.5)
    ax.spines[["top", "right"]].set_visible(False)
    draw_legend(ax, ax.containers, title=result.columns.name)
