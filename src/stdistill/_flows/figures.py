"""The niches of all methods on one slide, as the paper's Figures 3 and 4 show them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from anndata import AnnData

from stdistill import pl
from stdistill._drawing.colors import MISSING
from stdistill._drawing.view import draw_view, make_view
from stdistill._support.files import replacing
from stdistill._table import schema
from stdistill._table.checks import get_table, is_spatialdata

if TYPE_CHECKING:
    from matplotlib.lines import Line2D
    from spatialdata import SpatialData

DPI = 300
PANEL_IN = 2.6
"""Longer side of a panel, in inches: three of them are as wide as a page."""
NCOLS = 3


def draw_methods(data: AnnData | SpatialData, titles: Mapping[str, str], path: Path) -> None:
    """Draw the H&E, where there is one, and a map per column of niches, all in the colours of the first one.

    Parameters
    ----------
    data
        Table or SpatialData.
    titles
        The columns, the reference first, and the title of each.
    path
        Where to save the figure, without the ending: as PNG and as PDF.
    """
    from matplotlib.figure import Figure

    has_image = is_spatialdata(data) and schema.HE_IMAGE in data.images
    n_panels = len(titles) + has_image
    view = make_view(
        data, table_key=schema.TABLE, image_key=schema.HE_IMAGE if has_image else None, crop_um=None, size_um=None
    )
    width, height = (PANEL_IN * side / max(view.panel_size) for side in view.panel_size)
    ncols = NCOLS if has_image else 2
    nrows = -(-n_panels // ncols)
    figure = Figure(figsize=(width * ncols, (height + 0.3) * nrows), layout="compressed")
    panels = list(figure.subplots(nrows, ncols).flat)
    if has_image:
        draw_view(panels[0], view, "H&E")
    maps = panels[int(has_image) : n_panels]
    pl.niches(data, keys=list(titles), title=list(titles.values()), ax=maps)
    for panel in maps:
        panel.get_legend().remove()
    handles = _legend(get_table(data, schema.TABLE), next(iter(titles)))
    style = {"title": "Niche of the teacher", "frameon": False, "fontsize": "small", "ncols": -(-len(handles) // 11)}
    for spare in panels[n_panels:]:
        spare.set_axis_off()
    if n_panels < len(panels):
        panels[n_panels].legend(handles=handles, loc="center left", **style)
    else:
        figure.legend(handles=handles, loc="outside right center", **style)
    for ending in ("png", "pdf"):
        with replacing(path.with_suffix(f".{ending}")) as new:
            figure.savefig(new, dpi=DPI, bbox_inches="tight")


def _legend(cells: AnnData, key: str) -> list[Line2D]:
    """Name the niches of the reference; others have its colours where they share most cells."""
    from matplotlib.lines import Line2D

    names = [*cells.obs[key].cat.categories, "no niche"]
    colors = [*cells.uns[f"{key}_colors"], MISSING]
    return [
        Line2D([], [], color=color, marker="o", linestyle="none", label=str(name))
        for name, color in zip(names, colors, strict=True)
    ]
