"""What decides the niche of one cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import MISSING, Palette, category_colors, find_colormap
from stdistill._drawing.explained import warn_of_other_niches
from stdistill._drawing.legend import draw_legend
from stdistill._drawing.view import CELL_UM, View, draw_view, make_view
from stdistill._support.arrays import Floats, Rows
from stdistill._support.checks import check_key
from stdistill._table import schema
from stdistill._table.checks import find_rows, get_centers, get_table

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

    from stdistill.models.explanation.result import Explanation

MARGIN = 1.1
"""So many radii are shown to each side of the cell."""
PANEL_IN = (4.4, 3.9)
DOT_PT2 = 28
OPEN_PT = 1.8
"""Size of dots in the second panel, and width of open ones over an image."""
RIM = "#555555"
FIRST, RANDOM = "#bd1f01", "#717581"
"""Of the curves: the cells that add most first, and any."""
MOVED_UM = 0.5
"""Centres that were rounded since lie no further from where they were."""


def explain(
    data: AnnData | SpatialData,
    explanation: Explanation,
    *,
    cell: str,
    image_key: str | None = None,
    coordinate_system: str | None = None,
    size_um: float = CELL_UM,
    alpha: float = 1.0,
    cmap: str = "RdBu_r",
    palette: Palette | None = None,
    title: Sequence[str] | None = None,
    ax: Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    table_key: str = schema.TABLE,
) -> AxesOrList | None:
    """Draw what decides the niche of one cell, and whether to believe it.

    Three panels: the cell and the disc around it, its neighbours in the colour of what they add to the log-odds of the
    niche, red for it and blue against it; the same numbers against distance; and the probability of the niche while
    cells are left out, those that add most first, and in random orders.

    Parameters
    ----------
    data
        Table, or SpatialData with the table, of the cells that were explained.
    explanation
        What :func:`stdistill.tl.explain` returned.
    cell
        Name of the cell, one of those explained.
    size_um
        Diameter of the dots in µm.
    cmap
        Colour map of matplotlib, with a neutral middle; it is centred on 0.
    palette
        Colours of the labels in the second panel, where a `label_key` was named; by default those of the table.
    title
        Of the three panels.
    ax
        Axes of the three panels.
    image_key, coordinate_system, alpha, save, show, table_key
        As of :func:`stdistill.pl.niches`.

    Returns
    -------
    `None` when the figure was shown; else a list of axes. Nothing is written.

    Raises
    ------
    KeyError
        When the table, the cell, the image or the colour map is not there, or the cell was not explained.
    TypeError
        When `explanation` is something else, or an AnnData is to be drawn over an image.
    ValueError
        When the cells of these names lie elsewhere than those that were explained; as by :func:`stdistill.pl.niches`.

    Warns
    -----
    UserWarning
        When the table holds niches of a student, and none are of the explained model, as after another fit; or the
        niche of the cell has another name in the table than in the explanation, as after ``sd.tl.match_niches`` with
        ``rename=True``.

    Notes
    -----
    Where there is an image, dots are open, so that the nuclei are seen. The explained cell has a black rim. Grey cells
    in the disc were not read: they are of another group of the split, or have no features.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 300, (300, 2))})
    >>> adata.obsm["X_he"] = np.c_[adata.obsm["spatial"] / 100, rng.normal(size=(300, 6))].astype("float16")
    >>> adata.obs["region"] = np.where(adata.obsm["spatial"][:, 0] < 150, "left", "right")
    >>> student = sd.tl.distill(adata, teacher_key="region", max_epochs=2, progress_bar=False)
    >>> found = sd.tl.explain(adata, student, cells=["7"])
    >>> axes = sd.pl.explain(adata, found, cell="7", save="explanation.png")
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Circle
    from matplotlib.ticker import PercentFormatter

    from stdistill.models.explanation.result import Explanation

    if not isinstance(explanation, Explanation):
        msg = f"Expected what sd.tl.explain returns, found {type(explanation).__name__}."
        raise TypeError(msg)
    check_key(cell, explanation.cells.index, "a cell that was explained", argument="cell")
    adata = get_table(data, table_key)
    row = int(find_rows(adata, [cell])[0])
    warn_of_other_niches(adata, explanation, [cell], None)
    centers = get_centers(adata)
    x, y = (float(value) for value in centers[row])
    reach = MARGIN * explanation.radius_um
    view = make_view(
        data,
        table_key=table_key,
        image_key=image_key,
        coordinate_system=coordinate_system,
        crop_um=(x - reach, y - reach, x + reach, y + reach),
        size_um=size_um,
        alpha=alpha,
    )
    found = explanation.cells.loc[cell]
    neighbors = explanation.neighbors[explanation.neighbors["cell"] == cell]
    highest = float(neighbors["attribution"].abs().max()) or 1.0
    scale = ScalarMappable(Normalize(-highest, highest), find_colormap(cmap))
    areas = f"area {found['deletion_area']:.2f}, at random {found['random_area']:.2f}"
    titles = make_titles(title, [f"{cell}: niche {found['niche']}", "", areas])

    axes = make_axes(3, ax=ax, panel_size=PANEL_IN)
    disc, beside, curve = axes
    read = find_rows(adata, neighbors["neighbor"].tolist())
    _check_is_of(neighbors["distance_um"], np.linalg.norm(centers[read] - centers[row], axis=1), str(cell))
    _draw_dots(disc, view, np.setdiff1d(view.cells, read), centers, MISSING)
    colors = scale.to_rgba(neighbors["attribution"].to_numpy())
    order = neighbors["attribution"].abs().argsort()  # those that matter lie on top
    _draw_dots(disc, view, read[order], centers, colors[order])
    draw_view(disc, view, titles[0])
    disc.add_patch(Circle((x, y), explanation.radius_um, fill=False, edgecolor="black", linewidth=1))
    disc.add_patch(Circle((x, y), size_um / 2, fill=False, edgecolor="black", linewidth=2))
    bar = disc.figure.colorbar(scale, ax=disc, shrink=0.6)
    bar.ax.set_title("log-odds", fontsize="small", pad=8)

    _draw_distances(beside, neighbors, _label_colors(adata, explanation, palette), colors)
    beside.set(title=titles[1], xlabel="distance, µm", ylabel=f"adds to the log-odds of niche {found['niche']}")

    steps = explanation.deletion[explanation.deletion["cell"] == cell]
    curve.plot(steps["removed"], steps["random"], color=RANDOM, linestyle="--", label="in random order")
    curve.plot(steps["removed"], steps["probability"], color=FIRST, label="those that add most first")
    curve.fill_between(steps["removed"], steps["random"], steps["probability"], color=RANDOM, alpha=0.15, linewidth=0)
    curve.set(title=titles[2], xlabel="cells left out", ylabel=f"probability of niche {found['niche']}")
    curve.set(xlim=(0, 1), ylim=(0, 1.02))
    curve.xaxis.set_major_formatter(PercentFormatter(1))
    curve.legend(frameon=False, fontsize="small")
    for panel in (beside, curve):
        panel.spines[["top", "right"]].set_visible(False)
    return finish(axes, ax=ax, save=save, show=show)


def _check_is_of(explained: pd.Series, found: Floats, cell: str) -> None:
    """Raise unless the neighbours lie as far away as they did: cells of another slide may have the same names."""
    other = np.abs(explained.to_numpy() - found) > MOVED_UM
    if other.any():
        msg = (
            f"{other.sum()} of the {len(other)} cells around {cell!r} lie elsewhere in this table than when they were "
            "explained: it is of another slide, whose cells have the same names, or its centres were changed. Give the "
            "table that sd.tl.explain was given, or explain the cells of this one."
        )
        raise ValueError(msg)


def _draw_dots(ax: Axes, view: View, rows: Rows, centers: Floats, colors: Any) -> None:
    """Draw cells as dots of their true size, open where an image lies under them."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    dots = PatchCollection([Circle((x, y), view.size_um / 2) for x, y in centers[rows]])
    if view.background is None:
        dots.set(facecolor=colors, edgecolor=RIM, linewidth=0.5, alpha=view.alpha)
    else:
        dots.set(facecolor="none", edgecolor=colors, linewidth=OPEN_PT, alpha=view.alpha)
    ax.add_collection(dots)


def _label_colors(adata: AnnData, explanation: Explanation, palette: Palette | None) -> dict[str, str]:
    """Return the colour of each label that a neighbour has; of no label when none were asked for."""
    key = explanation.label_key
    if key is None:
        return {}
    names = [str(name) for name in pd.Categorical(explanation.neighbors["label"]).categories]
    return dict(zip(names, category_colors(adata, key, names, palette, {}), strict=True))


def _draw_distances(ax: Axes, neighbors: pd.DataFrame, labels: dict[str, str], colors: Any) -> None:
    """Draw what neighbours add against their distance, in the colours of their labels, if they have any."""
    ax.axhline(0, color=RANDOM, linewidth=0.8, zorder=0)
    x, y = neighbors["distance_um"], neighbors["attribution"]
    style: dict[str, Any] = {"s": DOT_PT2, "edgecolor": RIM, "linewidth": 0.5}
    if not labels:
        ax.scatter(x, y, c=colors, **style)
        return
    of = neighbors["label"].astype(str)
    for name, color in labels.items():
        if (of == name).any():
            ax.scatter(x[of == name], y[of == name], color=color, label=name, **style)
    ax.scatter(x[~of.isin(list(labels))], y[~of.isin(list(labels))], color=MISSING, **style)
    draw_legend(ax, ax.get_legend_handles_labels()[0])
