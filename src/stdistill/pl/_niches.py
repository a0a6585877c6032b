"""Niche maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stdistill._drawing.axes import AxesOrList
from stdistill._drawing.categories import draw_category_maps
from stdistill._drawing.colors import Palette
from stdistill._drawing.view import Bounds
from stdistill._table import schema
from stdistill._table.checks import get_table
from stdistill._table.labels import NICHE_SUFFIX, find_columns, read_labels
from stdistill._table.provenance.checks import warn_of_other_teacher

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

TEACHER_AND_STUDENT = [f"{schema.TEACHER}{NICHE_SUFFIX}", f"{schema.STUDENT}{NICHE_SUFFIX}"]


def niches(
    data: AnnData | SpatialData,
    *,
    keys: str | Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    image_key: str | None = None,
    coordinate_system: str | None = None,
    crop_um: Bounds | None = None,
    size_um: float | None = None,
    alpha: float = 1.0,
    palette: Palette | None = None,
    ncols: int | None = None,
    title: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    table_key: str = schema.TABLE,
) -> AxesOrList | None:
    """Draw where the niches lie on the slide, one panel per method.

    Parameters
    ----------
    data
        Table with cell centres in µm in ``.obsm["spatial"]`` and niches in categorical columns of ``.obs``, or
        SpatialData with such a table. One slide: of several, draw a view of each.
    keys
        Columns to draw. By default the teacher's and the student's, where there are any, else every ``*_niche`` column.
    groups
        Niches to colour, by name; all other cells are grey.
    image_key
        Name of the H&E of a SpatialData to draw the cells over. `None` draws the cells alone.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    crop_um
        Part of the slide to draw, (x_min, y_min, x_max, y_max) in µm.
    size_um
        Diameter of the dots in µm. By default that of a cell, 10 µm, and not less than 1/400 of what is shown.
    alpha
        Opacity of the dots, above 0 and at most 1.
    palette
        Colours in the order of the niches, or by name, for this figure. By default those in ``.uns["{key}_colors"]``;
        where there are none, up to 102 that differ: of more niches some share one, with a warning.
    ncols
        Panels in a row, by default all.
    title
        Title, or one per panel, instead of the names of the columns.
    ax
        Axes to draw in, as many as there are panels, instead of a new figure.
    save
        File to save the figure to; its ending says the format. Dots are rasterised also in vector graphics.
    show
        Whether to show the figure. By default it is shown unless `ax` or `save` is given.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    `None` when the figure was shown; else the axes, or a list of them when there are several panels. Written to the
    table, unless it is a view or `palette` is given:

    ``.uns["{key}_colors"]``
        The default colours, for a column that has none: those of the same names in the panels before it, else ones that
        are told apart also with red-green blindness.

    Raises
    ------
    KeyError
        When the table, a column, a group, the image, or a name in the palette is not there.
    TypeError
        When a column is not categorical, `groups` or `palette` is no list, `ax` holds no axes, or an AnnData is to be
        drawn over an image.
    ValueError
        When a column is missing for every cell, the table annotates several slides, coordinate systems disagree on
        where the cells lie on the image, `crop_um` shows no cell or lies off
        the image, a number is out of range, matplotlib does not know a colour, or the axes, titles or colours are not
        as many as needed.

    Notes
    -----
    As Hizmi et al. 2026, figure 3. The legend counts the cells of each niche that are drawn. Axes are µm, y downwards
    as on the slide. Niches of different methods bear the same colour for the same tissue after
    :func:`stdistill.tl.match_niches`.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> adata = ad.AnnData(np.zeros((500, 1)), obsm={"spatial": np.random.default_rng(0).uniform(0, 800, (500, 2))})
    >>> adata.obs["student_niche"] = pd.Categorical(np.where(adata.obsm["spatial"][:, 0] < 400, "left", "right"))
    >>> ax = sd.pl.niches(adata, save="niches.png")
    >>> ax.get_title()
    'student_niche'
    """
    adata = get_table(data, table_key)
    if keys is None:
        keys = [key for key in TEACHER_AND_STUDENT if key in adata.obs] or None
    columns = {key: read_labels(adata, key, "keys") for key in find_columns(adata, keys)}
    warn_of_other_teacher(adata, columns)
    return draw_category_maps(
        data,
        columns,
        groups=groups,
        defaults={},
        image_key=image_key,
        coordinate_system=coordinate_system,
        crop_um=crop_um,
        size_um=size_um,
        alpha=alpha,
        palette=palette,
        ncols=ncols,
        title=title,
        ax=ax,
        save=save,
        show=show,
        table_key=table_key,
    )
