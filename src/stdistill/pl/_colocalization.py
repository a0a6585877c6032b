"""Maps of which cell types lie together, of truth and prediction in one order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import find_colormap
from stdistill._drawing.matrix import cluster_order, draw_matrix, matrix_size
from stdistill._measures.abundances.moran import Colocalization
from stdistill._support.checks import check_positive

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARK_PT = 2.6
"""Diameter of the dot on a significant pair; a field of `matrix_size` is 20 points wide."""
DARK = 0.6
"""On fields this far from 0, as a share of the scale, dots are white."""


def colocalization(
    result: Colocalization | Sequence[Colocalization],
    *,
    max_q: float = 0.05,
    cmap: str = "RdBu_r",
    title: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> AxesOrList | None:
    """Draw bivariate Moran's R of all pairs of types, those that lie together beside each other.

    Parameters
    ----------
    result
        What :func:`stdistill.tl.colocalization` returned, or several of these, ``(truth, prediction)``. The first is
        clustered, and all are drawn in its order, on one scale.
    max_q
        Pairs with a false discovery rate of at most this are marked by a dot.
    cmap
        Colour map of matplotlib; its middle is 0.
    title, ax, save, show
        As of :func:`stdistill.pl.niches`; by default ``"truth"`` and ``"prediction"``, numbered when there are several.

    Returns
    -------
    `None` when the figure was shown; else the axes, or a list of them when there are several maps.

    Raises
    ------
    KeyError
        When there is no such colour map.
    TypeError
        When `result` is something else.
    ValueError
        When `result` is empty, a map lacks types of the first, or there are fewer axes or titles than needed.

    Notes
    -----
    Sun, Zhu & Qiu 2025, Figure A1 (b). Ours: one order for all, by average linkage of R itself; the diagonal is grey,
    because R of a type with itself is no pair and would set the scale. Types without R are grey too. A dot means that
    the types do not lie scattered: see *Co-localisation* in the documentation.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 5000, (300, 2))})
    >>> adata.obsm["abundance"] = rng.random((300, 4), dtype=np.float32)
    >>> adata.uns["stdistill"] = {"abundances": {"types": ["tumour", "T cells", "B cells", "fat"]}}
    >>> truth = sd.tl.colocalization(adata, key="abundance")
    >>> ax = sd.pl.colocalization(truth, save="colocalization.png")
    """
    maps = _maps(result)
    check_positive(max_q, "max_q")
    colormap = find_colormap(cmap)
    types = maps[0].r.index[cluster_order(maps[0].r)]
    for number, each in enumerate(maps[1:], start=1):
        if len(missing := types.difference(each.r.index, sort=False)):
            msg = f"Map {number} lacks {len(missing)} types of the first: {list(missing)}. It has {list(each.r.index)}."
            raise ValueError(msg)
    drawn = [_without_diagonal(each.r.loc[types, types]) for each in maps]
    highest = max((float(np.nanmax(np.abs(r))) for r in drawn if r.notna().any(axis=None)), default=1.0) or 1.0
    titles = make_titles(title, _names(len(maps)))
    axes = make_axes(len(maps), ax=ax, panel_size=matrix_size(drawn[0]))
    for panel, each, r, text in zip(axes, maps, drawn, titles, strict=True):
        draw_matrix(
            panel,
            r,
            cmap=colormap,
            label=f"Moran's R (dot: q ≤ {max_q:g})",
            highest=highest,
            title=text,
            lowest=-highest,
        )
        _mark(panel, r.to_numpy() / highest, each.q.loc[types, types].to_numpy() <= max_q)
    return finish(axes, ax=ax, save=save, show=show)


def _maps(result: Colocalization | Sequence[Colocalization]) -> list[Colocalization]:
    maps = list(result) if isinstance(result, Sequence) else [result]
    for each in maps:
        if not isinstance(each, Colocalization):
            msg = f"Expected what sd.tl.colocalization returns, or several of these, found {type(each).__name__}."
            raise TypeError(msg)
    if not maps:
        msg = "result is empty: give what sd.tl.colocalization returned, or several of these, the truth first."
        raise ValueError(msg)
    return maps


def _names(n: int) -> list[str]:
    if n == 1:
        return [""]
    predictions = ["prediction"] if n == 2 else [f"prediction {number}" for number in range(1, n)]
    return ["truth", *predictions]


def _without_diagonal(r: pd.DataFrame) -> pd.DataFrame:
    return r.mask(np.eye(len(r), dtype=bool))


def _mark(ax: Axes, shares: np.ndarray, marked: np.ndarray) -> None:
    """Draw a dot on each marked field, that is seen on its colour."""
    dark = np.abs(shares) > DARK
    for fields, color in ((marked & ~dark, "black"), (marked & dark, "white")):
        rows, columns = fields.nonzero()
        ax.plot(columns, rows, linestyle="none", marker="o", markersize=MARK_PT, color=color, markeredgewidth=0)
