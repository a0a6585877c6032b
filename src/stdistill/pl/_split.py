"""Map of the split into training and test cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stdistill._drawing.axes import AxesOrList
from stdistill._drawing.categories import draw_category_maps
from stdistill._drawing.colors import SPLIT_COLORS, Palette
from stdistill._drawing.view import Bounds
from stdistill._table import schema
from stdistill._table.checks import find_split_key, get_table
from stdistill._table.labels import read_labels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from spatialdata import SpatialData


def split(
    data: AnnData | SpatialData,
    *,
    split_key: str = schema.SPLIT,
    image_key: str | None = None,
    coordinate_system: str | None = None,
    crop_um: Bounds | None = None,
    size_um: float | None = None,
    alpha: float = 1.0,
    palette: Palette | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    table_key: str = schema.TABLE,
) -> AxesOrList | None:
    """Draw the strips of training and test cells, and the buffer between them.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with a split.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`; the default is found under another name too.
    image_key, coordinate_system, crop_um, size_um, alpha, palette, title, ax, save, show, table_key
        As of :func:`stdistill.pl.niches`.

    Returns
    -------
    `None` when the figure was shown; else the axes. Written to the table, unless it is a view or `palette` is given:

    ``.uns["{split_key}_colors"]``
        The default colours, when there were none.

    Raises
    ------
    KeyError
        When the table, the split or the image is not there.
    TypeError
        When the split is not categorical.
    ValueError
        As by :func:`stdistill.pl.niches`.

    Notes
    -----
    As Hizmi et al. 2026, section 5.1, describe it; the picture is our choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> adata = ad.AnnData(np.zeros((900, 1)), obsm={"spatial": np.random.default_rng(0).uniform(0, 2000, (900, 2))})
    >>> sd.pp.split_strips(adata, mpp=0.274)
    >>> ax = sd.pl.split(adata, save="split.png")
    """
    adata = get_table(data, table_key)
    split_key = find_split_key(adata, split_key) or split_key
    labels = read_labels(adata, split_key, "split_key", "Write one with sd.pp.split_strips.")
    return draw_category_maps(
        data,
        {split_key: labels},
        groups=None,
        defaults=SPLIT_COLORS,
        image_key=image_key,
        coordinate_system=coordinate_system,
        crop_um=crop_um,
        size_um=size_um,
        alpha=alpha,
        palette=palette,
        ncols=None,
        title=title,
        ax=ax,
        save=save,
        show=show,
        table_key=table_key,
    )
