"""The niches of all slides of a cohort, as stacked bars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import Palette, category_colors
from stdistill._drawing.legend import draw_legend, legend_width
from stdistill._drawing.matrix import cluster_order
from stdistill._support.arrays import Float64s, Rows
from stdistill._support.checks import check_choice, check_key
from stdistill._table import schema
from stdistill._table.cohorts import check_one_student, check_slides

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NICHE = "niche"
NAMED = 60
"""Up to so many slides their names are written."""
NARROWEST_IN, WIDEST_IN, BAR_IN = 3.5, 14.0, 0.24
HEIGHT_IN = 3.6
STRIPS = ("#555555", "#aaaaaa")
"""Greys of the groups, one after the other, which are no niche's colours."""
Share = Literal["cells", "area"]


def cohort(
    cohort: AnnData,
    *,
    group_key: str | None = None,
    of: Share = "cells",
    cluster: bool = True,
    palette: Palette | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> AxesOrList | None:
    """Draw a bar per slide, divided by niche; slides that are alike stand beside each other.

    Parameters
    ----------
    cohort
        From :func:`stdistill.tl.cohort`.
    group_key
        Column of ``.obs`` with groups of slides: they are drawn one after the other, each under a strip with its name.
    of
        Shares of the ``"cells"`` or of the ``"area"``.
    cluster
        Whether slides, within their group, are put in the order of a clustering by composition; else they keep theirs.
    palette
        Colours of the niches, in their order or by name; by default the student's.
    title, ax, save, show
        As of :func:`stdistill.pl.niches`.

    Returns
    -------
    `None` when the figure was shown; else the axes.

    Raises
    ------
    KeyError
        When there is no such column, no layer of areas, or the palette lacks a niche.
    TypeError
        When `cohort` is no AnnData.
    ValueError
        When the rows hold no shares or are of several students, ``.obs`` was put in another order than they, `of` is
        another word, or there are fewer colours than niches.

    Notes
    -----
    Slides are clustered by the Jensen-Shannon distance between their compositions, with average linkage: our choice,
    which takes zeros as they are and does not let the rarest niche decide, as distances of logarithms would. Slides
    without a group come last; one without a cell that has a niche has no bar.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> shares = np.random.default_rng(0).dirichlet([4, 2, 1], size=8)
    >>> obs = pd.DataFrame({"group": ["a", "b"] * 4}, index=[f"slide {n}" for n in range(8)])
    >>> cohort = ad.AnnData(shares, obs=obs, var=pd.DataFrame(index=["tumour", "stroma", "lymphoid"]))
    >>> ax = sd.pl.cohort(cohort, group_key="group", save="cohort.png")
    """
    shares = _read_shares(cohort, of)
    check_one_student(cohort.obs)
    check_slides(cohort)
    names = list(map(str, cohort.var_names))
    niches = AnnData(obs=pd.DataFrame({NICHE: pd.Categorical(names, names)}, index=names), uns=dict(cohort.uns))
    colors = category_colors(niches, NICHE, names, palette, {})
    groups = None
    if group_key is not None:
        check_key(group_key, cohort.obs.columns, "a column of .obs", argument="group_key")
        groups = cohort.obs[group_key].astype("category").cat.remove_unused_categories()
    order = _order(shares, groups, cluster=cluster)
    (text,) = make_titles(title, [""])
    width = float(np.clip(BAR_IN * len(order), NARROWEST_IN, WIDEST_IN)) + legend_width(names)
    axes = make_axes(1, ax=ax, panel_size=(width, HEIGHT_IN))
    _draw_bars(axes[0], shares[order], names, colors)
    if len(order) <= NAMED:
        axes[0].set_xticks(range(len(order)), cohort.obs_names[order], rotation=90, fontsize="small")
    else:
        axes[0].set_xticks([])
    axes[0].set_title(text, pad=None if groups is None else 24)
    axes[0].set_ylabel(f"share of {'cells' if of == 'cells' else 'the area'}")
    if groups is not None:
        _draw_groups(axes[0], groups.iloc[order], str(group_key))
    return finish(axes, ax=ax, save=save, show=show)


def _read_shares(cohort: AnnData, of: Share) -> Float64s:
    """Return the shares (n, k), checked to be some."""
    if not isinstance(cohort, AnnData):
        msg = f"Expected the AnnData of slides that sd.tl.cohort returns, found {type(cohort).__name__}."
        raise TypeError(msg)
    check_choice(of, "of", get_args(Share))
    if of == "area":
        check_key(schema.AREA, list(cohort.layers), "a layer of the table", argument="layer")
    found = cohort.X if of == "cells" else cohort.layers[schema.AREA]
    shares = np.asarray(found, dtype=np.float64)
    sums = shares.sum(axis=1)
    known = ~np.isnan(sums)
    if not known.any() or not np.allclose(sums[known], 1, atol=1e-4):
        msg = "The rows of the table do not sum to 1: give the one that sd.tl.cohort returns, slides × niches."
        raise ValueError(msg)
    return shares


def _order(shares: Float64s, groups: pd.Series | None, *, cluster: bool) -> Rows:
    """Order slides by group, and those of one group so that slides that are alike stand beside each other."""
    codes = np.zeros(len(shares), dtype=np.intp) if groups is None else groups.cat.codes.to_numpy(dtype=np.intp)
    codes = np.where(codes < 0, codes.max() + 1, codes)
    parts = []
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        parts.append(rows[_alike(shares[rows])] if cluster else rows)
    return np.concatenate(parts)


def _alike(shares: Float64s) -> Rows:
    """Order rows by clustering; those without shares come last."""
    from scipy.spatial.distance import pdist, squareform

    known = np.flatnonzero(~np.isnan(shares).any(axis=1))
    distances = squareform(pdist(shares[known], "jensenshannon")) if len(known) > 1 else np.zeros((len(known),) * 2)
    order = known[cluster_order(pd.DataFrame(-distances))]
    return np.concatenate([order, np.setdiff1d(np.arange(len(shares)), known)])


def _draw_bars(ax: Axes, shares: Float64s, names: list[str], colors: list[str]) -> None:
    heights = np.nan_to_num(shares)
    starts = heights.cumsum(axis=1) - heights
    places = np.arange(len(heights))
    width = 0.88 if len(heights) <= NAMED else 1.0
    for number, name in enumerate(names):
        ax.bar(places, heights[:, number], bottom=starts[:, number], color=colors[number], label=name, width=width)
    ax.set(ylim=(0, 1), xlim=(-0.6, len(heights) - 0.4))
    ax.tick_params(axis="x", length=0)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    # The legend reads as the bars are stacked, from the top down.
    draw_legend(ax, ax.containers[::-1])


def _draw_groups(ax: Axes, groups: pd.Series, group_key: str) -> None:
    """Mark the slides of each group by a strip above the bars, with its name."""
    from matplotlib.transforms import blended_transform_factory

    names = [*map(str, groups.cat.categories), "missing"]
    codes = groups.cat.codes.to_numpy()
    at = blended_transform_factory(ax.transData, ax.transAxes)
    for number, code in enumerate(dict.fromkeys(codes)):
        places = np.flatnonzero(codes == code)
        left, right = places[0] - 0.44, places[-1] + 0.44
        color = STRIPS[number % len(STRIPS)]
        ax.plot([left, right], [1.03] * 2, color=color, linewidth=4, solid_capstyle="butt", transform=at, clip_on=False)
        text = f"{names[code]} ({len(places)})"
        if number == 0:
            text = f"{group_key}: {text}"
        ax.text((left + right) / 2, 1.055, text, ha="center", va="bottom", fontsize="small", transform=at)
