"""Niches for Xenium Explorer, as a CSV of cell groups."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._drawing.colors import category_colors
from stdistill._table import schema
from stdistill._table.checks import get_centers, get_table
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.labels import read_labels
from stdistill._table.libraries import warn_of_overlap

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

CELL_ID = "cell_id"
XENIUM_ID = r"[a-p]{8}-\d+|\d+"
"""Ids of XOA 1.3 and later; before, they were numbers."""


def to_xenium_explorer(
    data: AnnData | SpatialData, path: str | Path, *, key: str, table_key: str = schema.TABLE
) -> Path:
    """Write niches, or any groups of cells, as the CSV that Xenium Explorer colours its cells by.

    In Xenium Explorer open the slide and give the file under *Cells › Groups › Upload*. It only works on the cells of
    that Xenium run: it finds them by their ids.

    Parameters
    ----------
    data
        Table of a Xenium slide, or SpatialData with one.
    path
        The file, ``.csv``.
    key
        Categorical column of ``.obs`` with the groups, such as ``"student_niche"``.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    The file's path. It has the columns ``cell_id``, ``group`` and ``color`` (``#RRGGBB``, as in the table); cells
    without a group are left out, and Explorer shows them as unassigned.

    Raises
    ------
    FileExistsError
        When `path` is a file that was not written here, by its first line, or the cell groups of a Xenium bundle.
    KeyError
        When the table or the column is not there.
    TypeError
        When the column is not categorical.
    ValueError
        When `path` is no CSV, all cells lack a group, or the cells have ids that no Xenium run has, or some twice.

    Warns
    -----
    UserWarning
        When the table seems to hold several slides that lie over one another.

    Notes
    -----
    The format is that of 10x's own ``cell_groups.csv``. Ids are ``.obs["cell_id"]``, else the table's index.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=500))
    >>> sd.io.to_xenium_explorer(sdata, "cell_types.csv", key="cell_type").name
    'cell_types.csv'
    """
    from matplotlib.colors import to_hex

    from stdistill._formats.cell_groups import write_cell_groups

    path = Path(path).expanduser()
    if path.suffix.lower() != ".csv":
        msg = f"path is {str(path)!r}; Xenium Explorer takes groups of cells as a .csv."
        raise ValueError(msg)
    table = get_table(data, table_key)
    labels = read_labels(table, key, "key")
    ids = _xenium_ids(table)
    if schema.SPATIAL in table.obsm:
        warn_of_overlap(table, get_centers(table), "Xenium Explorer colours the cells of one: write them one by one.")
    colors = [to_hex(color).upper() for color in category_colors(table, key, labels.names, None, {})]
    n_written = write_cell_groups(path, ids, labels.codes, labels.names, colors)
    logger.info("Wrote %r of %d of %d cells to %s.", key, n_written, table.n_obs, path)
    return path


def _xenium_ids(table: AnnData) -> npt.NDArray[np.object_]:
    """Return the ids of the cells, which must be those of one Xenium run."""
    source = f'obs["{CELL_ID}"]' if CELL_ID in table.obs else "obs_names"
    ids: npt.NDArray[np.object_] = table.obs.get(CELL_ID, table.obs_names).astype(str).to_numpy(dtype=object)
    slide = read_slide_record(table)
    wrong = ids[~pd.Series(ids).str.fullmatch(XENIUM_ID).to_numpy(dtype=bool)]
    if len(wrong) or (slide is not None and slide.source != "xenium"):
        found = (
            f"{len(wrong)} of {len(ids)} cells have other ids in .{source}, such as {wrong[0]!r}"
            if len(wrong)
            else None
        )
        why = found or f"the slide was read from {slide.source if slide else 'another source'}"
        msg = (
            "Xenium Explorer colours the cells of a Xenium run, which have ids such as 'aaaajfbk-1' or 1, 2, …: "
            f"{why}. For QuPath there is sd.io.to_geojson; a slide of any origin is made into one for Xenium Explorer "
            "by sopa.io.explorer.write (package sopa)."
        )
        raise ValueError(msg)
    n_repeated = len(ids) - len(set(ids))
    if n_repeated:
        msg = f"{n_repeated} ids in .{source} are there twice: write the slides one by one."
        raise ValueError(msg)
    return ids
