"""Cell types of each niche."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pandas as pd

from stdistill._measures.composition import shares
from stdistill._measures.labels import cross_table
from stdistill._table import schema
from stdistill._table.checks import get_table
from stdistill._table.labels import CELL_TYPE_HINT, read_labels

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")


def composition(
    data: AnnData | SpatialData, *, niche_key: str, cell_type_key: str, table_key: str = schema.TABLE
) -> pd.DataFrame:
    """Count the cell types of each niche, as shares of its cells.

    Parameters
    ----------
    data
        Table, or SpatialData with a table. A view, such as ``adata[adata.obs["split"] == "test"]``, measures its cells.
    niche_key
        Categorical column of ``.obs`` with the niches.
    cell_type_key
        Categorical column of ``.obs`` with the cell types.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    One row per niche and one column per cell type, in the order of the categories. Rows sum to 1; that of a niche
    without cells is NaN. Cells without a niche or without a cell type are not counted, and their number is logged.
    Nothing is written.

    Raises
    ------
    KeyError
        When the table or a column is not there.
    TypeError
        When a column is not categorical.
    ValueError
        When no cell has both a niche and a cell type.

    Notes
    -----
    Hizmi et al. 2026, section 5.5.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> obs = pd.DataFrame({"niche": list("aabb"), "cell_type": list("TTTB")}, dtype="category")
    >>> obs.index = obs.index.astype(str)
    >>> adata = ad.AnnData(np.zeros((4, 1)), obs=obs)
    >>> sd.tl.composition(adata, niche_key="niche", cell_type_key="cell_type").loc["b"].to_dict()
    {'B': 0.5, 'T': 0.5}
    """
    adata = get_table(data, table_key)
    niches = read_labels(adata, niche_key, "niche_key")
    cell_types = read_labels(adata, cell_type_key, "cell_type_key", CELL_TYPE_HINT)
    both = niches.known & cell_types.known
    if not both.any():
        msg = f"No cell has both a niche in .obs[{niche_key!r}] and a cell type in .obs[{cell_type_key!r}]."
        raise ValueError(msg)
    logger.info("%d of %d cells have a niche and a cell type.", both.sum(), adata.n_obs)
    return pd.DataFrame(
        shares(cross_table(niches, cell_types, both)),
        index=pd.Index(niches.names, name=niche_key),
        columns=pd.Index(cell_types.names, name=cell_type_key),
    )
