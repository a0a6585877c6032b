"""Maps of categorical columns: one panel each, with the numbers of cells in the legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import MISSING, Palette, category_colors, write_colors
from stdistill._drawing.legend import draw_legend, legend_width
from stdistill._drawing.view import TITLE_IN, Bounds, View, draw_cells, draw_view, make_view
from stdistill._measures.labels import Labels
from stdistill._support.checks import check_key
from stdistill._table.checks import get_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from spatialdata import SpatialData


def draw_category_maps(
    data: AnnData | SpatialData,
    columns: Mapping[str, Labels],
    *,
    groups: Sequence[str] | None,
    defaults: Mapping[str, str],
    image_key: str | None,
    coordinate_system: str | None,
    crop_um: Bounds | None,
    size_um: float | None,
    alpha: float,
    palette: Palette | None,
    ncols: int | None,
    title: str | Sequence[str] | None,
    ax: Axes | Sequence[Axes] | None,
    save: str | Path | None,
    show: bool | None,
    table_key: str,
) -> AxesOrList | None:
    """Draw columns of ``.obs`` side by side; arguments as of :func:`stdistill.pl.niches`."""
    adata = get_table(data, table_key)
    _check_groups(columns, groups)
    titles = make_titles(title, list(columns))
    colors: dict[str, list[str]] = {}
    by_name = dict(defaults)
    for key, labels in columns.items():
        colors[key] = category_colors(adata, key, labels.names, palette, by_name)
        # A column without colours of its own takes those of its namesakes in the panels before.
        by_name = {**dict(zip(labels.names, colors[key], strict=True)), **by_name}
    view = make_view(
        data,
        table_key=table_key,
        image_key=image_key,
        coordinate_system=coordinate_system,
        crop_um=crop_um,
        size_um=size_um,
        alpha=alpha,
    )
    width, height = view.panel_size
    legends = ([*(labels.names if groups is None else groups), "missing"] for labels in columns.values())
    room = max(legend_width([f"{name} ({adata.n_obs:,})" for name in names]) for names in legends)
    panel_size = width + room, height + TITLE_IN

    axes = make_axes(len(columns), ax=ax, panel_size=panel_size, ncols=ncols)
    for panel, (key, labels), text in zip(axes, columns.items(), titles, strict=True):
        _draw(panel, view, labels, colors[key], groups)
        draw_view(panel, view, text)
    if palette is None:
        for key in columns:
            write_colors(adata, key, colors[key])
    return finish(axes, ax=ax, save=save, show=show)


def _check_groups(columns: Mapping[str, Labels], groups: Sequence[str] | None) -> None:
    if groups is None:
        return
    if isinstance(groups, str) or not hasattr(groups, "__len__"):
        msg = f"groups must be a list of names, found {groups!r}."
        raise TypeError(msg)
    if not len(groups):
        msg = "groups is empty: name the categories to colour, or leave it out to colour all."
        raise ValueError(msg)
    names = {name for labels in columns.values() for name in labels.names}
    for group in groups:
        check_key(group, names, f"a category of {list(columns)}", argument="groups")


def _draw(ax: Axes, view: View, labels: Labels, colors: Sequence[str], groups: Sequence[str] | None) -> None:
    from matplotlib.colors import to_rgba_array
    from matplotlib.lines import Line2D

    codes = labels.codes[view.cells]
    shown = [code for code, name in enumerate(labels.names) if groups is None or name in groups]
    grey = ~np.isin(codes, shown)
    rgba = to_rgba_array([*colors, MISSING])
    draw_cells(ax, view, rgba[np.where(grey, len(colors), codes)], layers=~grey)
    sizes = np.bincount(codes[~grey], minlength=len(labels.names))
    entries = [(labels.names[code], colors[code], sizes[code]) for code in shown if sizes[code]]
    if grey.any():
        entries.append(("missing" if groups is None else "other", MISSING, grey.sum()))
    handles = [
        Line2D([], [], color=color, marker="o", linestyle="none", label=f"{name} ({size:,})")
        for name, color, size in entries
    ]
    draw_legend(ax, handles, handletextpad=0.1, columnspacing=0.8)
