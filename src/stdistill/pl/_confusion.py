"""Which niches of a method cover which of a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import find_colormap
from stdistill._drawing.matrix import draw_matrix, matrix_size
from stdistill._measures.composition import shares
from stdistill._measures.labels import cross_table
from stdistill._measures.matching import best_partners
from stdistill._table import schema
from stdistill._table.checks import get_table
from stdistill._table.labels import NICHE_SUFFIX, held_out, read_labels
from stdistill._table.provenance.checks import check_measured

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from spatialdata import SpatialData


def confusion(
    data: AnnData | SpatialData,
    *,
    reference_key: str = f"{schema.TEACHER}{NICHE_SUFFIX}",
    key: str = f"{schema.STUDENT}{NICHE_SUFFIX}",
    split_key: str | None = schema.SPLIT,
    cmap: str = "viridis",
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    table_key: str = schema.TABLE,
) -> AxesOrList | None:
    """Draw where a method puts the cells of each niche of a reference.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with niche labels in categorical columns of ``.obs``.
    reference_key
        Column of the reference: the rows, each of which sums to 1.
    key
        Column of the method: the columns.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`; the default need not be there, and is found
        under another name too. The ``"test"`` cells are counted. `None` takes all cells.
    cmap
        Colour map of matplotlib.
    title, ax, save, show, table_key
        As of :func:`stdistill.pl.niches`; the title is the number of cells.

    Returns
    -------
    `None` when the figure was shown; else the axes. Nothing is written.

    Raises
    ------
    KeyError
        When the table, a column, the split or the colour map is not there.
    TypeError
        When a column is not categorical.
    ValueError
        When a column is missing for every cell, no cell has both labels, or there is no test cell; or as by
        :func:`stdistill.tl.agreement`, when one was fitted on test cells or taught by another teacher.

    Notes
    -----
    Our choice. The method's niches are ordered as by :func:`stdistill.tl.match_niches`, so that a method that agrees
    with the reference shows a diagonal; those without a partner come last. Rows without cells are grey.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> obs = pd.DataFrame({"teacher_niche": list("aabb"), "student_niche": list("2211")}, dtype="category")
    >>> obs.index = obs.index.astype(str)
    >>> ax = sd.pl.confusion(ad.AnnData(np.zeros((4, 1)), obs=obs), save="confusion.png")
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['2', '1']
    """
    adata = get_table(data, table_key)
    reference = read_labels(adata, reference_key, "reference_key")
    labels = read_labels(adata, key, "key")
    colormap = find_colormap(cmap)
    check_measured(adata, [key], split_key, reference_key=reference_key)
    group, cells = held_out(adata, split_key)
    counts = cross_table(reference, labels, cells)
    if not counts.any():
        msg = f"No cell ({group}) has a niche in both .obs[{reference_key!r}] and .obs[{key!r}]."
        raise ValueError(msg)
    partners = best_partners(counts)
    paired = partners[partners >= 0]
    order = np.r_[paired, np.setdiff1d(np.arange(len(labels.names)), paired)]
    matrix = pd.DataFrame(
        shares(counts)[:, order],
        index=pd.Index(reference.names, name=reference_key),
        columns=pd.Index(np.array(labels.names)[order], name=key),
    )
    (text,) = make_titles(title, [f"{counts.sum():,} cells ({group})"])
    axes = make_axes(1, ax=ax, panel_size=matrix_size(matrix))
    draw_matrix(axes[0], matrix, cmap=colormap, label="share of the row", highest=1.0, title=text)
    return finish(axes, ax=ax, save=save, show=show)
