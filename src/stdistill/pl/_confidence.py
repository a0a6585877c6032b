"""Maps of how sure the niche models are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from anndata import AnnData

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import find_colormap
from stdistill._drawing.view import TITLE_IN, Bounds, draw_cells, draw_view, make_view
from stdistill._table import schema
from stdistill._table.checks import check_one_model, get_table, holds_numbers
from stdistill._table.labels import NICHE_SUFFIX, find_columns, warn_of_edited_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

COLORBAR_IN = 0.9
"""Room for the colour bar, in inches."""
HINT = "Confidence is written by sd.tl.nolan, sd.tl.distill and sd.tl.predict."


def confidence(
    data: AnnData | SpatialData,
    *,
    keys: str | Sequence[str] | None = None,
    image_key: str | None = None,
    coordinate_system: str | None = None,
    crop_um: Bounds | None = None,
    size_um: float | None = None,
    alpha: float = 1.0,
    cmap: str = "viridis",
    ncols: int | None = None,
    title: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    table_key: str = schema.TABLE,
) -> AxesOrList | None:
    """Draw how sure each cell's niche is, one panel per model, all on the scale from 0 to 1.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with confidences in ``.obs``.
    keys
        Columns to draw, by default every ``*_confidence`` column.
    cmap
        Colour map of matplotlib.
    image_key, coordinate_system, crop_um, size_um, alpha, ncols, title, ax, save, show, table_key
        As of :func:`stdistill.pl.niches`.

    Returns
    -------
    `None` when the figure was shown; else the axes, or a list of them when there are several panels. Nothing is
    written.

    Raises
    ------
    KeyError
        When the table, a column, the image or the colour map is not there.
    TypeError
        When a column does not hold numbers, or an AnnData is to be drawn over an image.
    ValueError
        When a column is missing for every cell, of several models or holds values outside 0 to 1, or as by
        :func:`stdistill.pl.niches`.

    Notes
    -----
    Confidence is the largest softmax probability of a cell's logits. Cells without a prediction are grey.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((500, 1)), obsm={"spatial": rng.uniform(0, 800, (500, 2))})
    >>> adata.obs["student_confidence"] = rng.uniform(size=500)
    >>> ax = sd.pl.confidence(adata, save="confidence.png")
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    adata = get_table(data, table_key)
    columns = {key: _read(adata, key) for key in find_columns(adata, keys, suffix=schema.CONFIDENCE_SUFFIX, hint=HINT)}
    scale = ScalarMappable(Normalize(0, 1), find_colormap(cmap))
    titles = make_titles(title, list(columns))
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
    axes = make_axes(len(columns), ax=ax, panel_size=(width + COLORBAR_IN, height + TITLE_IN), ncols=ncols)
    for panel, values, text in zip(axes, columns.values(), titles, strict=True):
        shown = values[view.cells]
        draw_cells(panel, view, scale.to_rgba(shown), layers=~np.isnan(shown))
        draw_view(panel, view, text)
        panel.figure.colorbar(scale, ax=panel, shrink=0.6, label="confidence")
    return finish(axes, ax=ax, save=save, show=show)


def _read(adata: AnnData, key: str) -> npt.NDArray[np.float64]:
    prefix = key.removesuffix(schema.CONFIDENCE_SUFFIX)
    check_one_model(adata, prefix)
    warn_of_edited_labels(adata, f"{prefix}{NICHE_SUFFIX}")
    column = adata.obs[key]
    if not holds_numbers(column.dtype):
        msg = f".obs[{key!r}] holds {column.dtype}; expected numbers between 0 and 1. {HINT}"
        raise TypeError(msg)
    values: npt.NDArray[np.float64] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isnan(values).all():
        msg = f".obs[{key!r}] is missing for every cell. {HINT}"
        raise ValueError(msg)
    lowest, highest = np.nanmin(values), np.nanmax(values)
    if lowest < 0 or highest > 1:
        msg = f".obs[{key!r}] holds values outside 0 to 1, from {lowest:g} to {highest:g}. {HINT}"
        raise ValueError(msg)
    return values
