"""One cell and its neighbourhood, as a niche model sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import MISSING
from stdistill._drawing.view import CELL_UM, draw_cells, draw_view, make_view
from stdistill._table import schema
from stdistill._table.checks import find_rows, get_centers, get_table, where_else
from stdistill._table.graph import graph_radius, read_graph

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

MARGIN = 1.25
"""So many radii are shown to each side of the cell."""
NEIGHBOR, CELL = "#3f90da", "#bd1f01"


def neighborhood(
    data: AnnData | SpatialData,
    *,
    cell: str,
    image_key: str | None = None,
    coordinate_system: str | None = None,
    size_um: float = CELL_UM,
    alpha: float = 1.0,
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    table_key: str = schema.TABLE,
) -> AxesOrList | None:
    """Draw one cell, the disc around it, and the cells in it, which are the tokens of a niche model.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with neighbourhoods.
    cell
        Name of the cell in ``.obs_names``.
    size_um
        Diameter of the dots in µm.
    image_key, coordinate_system, alpha, title, ax, save, show, table_key
        As of :func:`stdistill.pl.niches`.

    Returns
    -------
    `None` when the figure was shown; else the axes. Nothing is written.

    Raises
    ------
    KeyError
        When the table, the cell, the neighbourhoods or the image is not there.
    TypeError
        When an AnnData is to be drawn over an image.
    ValueError
        When the neighbourhoods have no radius, or as by :func:`stdistill.pl.niches`.

    Notes
    -----
    Neighbours are those of the graph that :func:`stdistill.pp.neighborhoods` wrote. Cells within the disc that are
    grey are not among them: they are of another group of the split.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> adata = ad.AnnData(np.zeros((900, 1)), obsm={"spatial": np.random.default_rng(0).uniform(0, 500, (900, 2))})
    >>> sd.pp.neighborhoods(adata, radius_um=60)
    >>> ax = sd.pl.neighborhood(adata, cell="17", save="neighborhood.png")
    """
    from matplotlib.colors import to_rgba_array
    from matplotlib.patches import Circle

    adata = get_table(data, table_key)
    graph = read_graph(adata)
    if cell not in adata.obs_names:
        msg = f"cell={cell!r} is not in .obs_names; they are like {adata.obs_names[:3].tolist()}."
        raise KeyError(msg + where_else(adata, cell))
    row = int(find_rows(adata, [cell])[0])
    radius = graph_radius(adata)
    x, y = (float(value) for value in get_centers(adata)[row])
    reach = MARGIN * radius
    crop_um = x - reach, y - reach, x + reach, y + reach
    view = make_view(
        data,
        table_key=table_key,
        image_key=image_key,
        coordinate_system=coordinate_system,
        crop_um=crop_um,
        size_um=size_um,
        alpha=alpha,
    )
    neighbors = graph[[row]].indices
    (text,) = make_titles(title, [f"{cell}: {len(neighbors)} neighbours within {radius:.1f} µm"])

    layers = np.isin(view.cells, neighbors) + 2 * (view.cells == row)
    axes = make_axes(1, ax=ax, panel_size=view.panel_size)
    draw_cells(axes[0], view, to_rgba_array([MISSING, NEIGHBOR, CELL])[layers], layers=layers)
    draw_view(axes[0], view, text)
    axes[0].add_patch(Circle((x, y), radius, fill=False, edgecolor="black", linewidth=1.2))
    return finish(axes, ax=ax, save=save, show=show)
