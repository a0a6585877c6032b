"""Tiles that are like others, across H&E and expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from stdistill._measures.alignment.recall import nearest, unit_rows
from stdistill._support.arrays import Mask
from stdistill._support.checks import as_names, check_choice, check_integer
from stdistill._table import schema
from stdistill._table.checks import find_rows, get_centers
from stdistill._table.fitting.aligned import Side, check_one_alignment, check_widths, read_aligned
from stdistill._table.tiles import get_tiles

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData


def find_tiles(
    data: AnnData | SpatialData,
    query: str | Sequence[str],
    *,
    side: Side = "expression",
    among: Side = "he",
    n: int = 10,
    query_data: AnnData | SpatialData | None = None,
    key: str = schema.ALIGNED,
    tiles_key: str = schema.TILES,
) -> pd.DataFrame:
    """Find the tiles whose H&E looks like a place of given expression, and the other way round.

    Parameters
    ----------
    data
        SpatialData with tiles that :func:`stdistill.tl.align` or :func:`stdistill.tl.predict` embedded, or their table:
        where is looked for.
    query
        Name of a tile; or names of several, which ask together, by the mean of their embeddings.
    side
        Which side of the query asks: ``"expression"`` or ``"he"``.
    among
        Which side of the tiles is looked at. A slide of H&E alone has ``"he"``.
    n
        Tiles to find.
    query_data
        Where the tiles of the query are, by default `data`; both must be embedded by one model.
    key
        The `key_added` of :func:`stdistill.tl.align`.
    tiles_key
        Name of the table of tiles.

    Returns
    -------
    One row per tile, the most similar first: its name ``tile``, ``similarity`` (cosine), ``rank`` from 1, and its
    centre ``x_um``, ``y_um``. Fewer than `n` where there are fewer. Tiles without an embedding are no answer; those of
    the query are none either where the same side is asked and looked at. Nothing is written.

    Raises
    ------
    KeyError
        When tiles, those of the query or embeddings are not there.
    TypeError
        When embeddings are no numbers.
    ValueError
        When the query is empty or has no embedding, no tile has one, both are of different models, or an argument is
        out of range.

    See Also
    --------
    retrieval : how often the right tile is found.

    Notes
    -----
    The cosine of embeddings of several scales is the mean over the scales of theirs. Answers are ranked, not tested:
    there is always a most similar tile. Asking with the mean of several is our choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> tiles = ad.AnnData(np.zeros((3, 1)), uns={"stdistill": {"tiles": {"n_tiles": 3}}})
    >>> tiles.obs_names = ["tile-1", "tile-2", "tile-3"]
    >>> tiles.obsm["spatial"] = np.array([[0.0, 0], [128, 0], [256, 0]])
    >>> tiles.obsm["X_aligned_he"] = np.eye(3, dtype="float32")
    >>> tiles.obsm["X_aligned_expression"] = np.array([[0.6, 0.8, 0], [1, 0, 0], [0, 0, 1]], dtype="float32")
    >>> sd.tl.find_tiles(tiles, "tile-1", n=2)
         tile  similarity  rank   x_um  y_um
    0  tile-2         0.8     1  128.0   0.0
    1  tile-1         0.6     2    0.0   0.0
    """
    check_choice(side, "side", get_args(Side))
    check_choice(among, "among", get_args(Side))
    check_integer(n, "n", minimum=1)
    names = as_names(query, "query", "a tile, such as 'tile-1', or several")
    tiles = get_tiles(data, tiles_key)
    asking = tiles if query_data is None else get_tiles(query_data, tiles_key)
    check_one_alignment([tiles, asking], key)
    candidates, asked = read_aligned(tiles, key, among), read_aligned(asking, key, side)
    check_widths([candidates.shape[1], asked.shape[1]], f"The embeddings {key!r}")
    rows = find_rows(asking, names, "tiles")
    vectors = asked[rows]
    unknown = ~np.isfinite(vectors).all(axis=1)
    if unknown.any():
        msg = (
            f"{unknown.sum()} of the {len(names)} tiles of the query have no embedding of their {side} (NaN), such as "
            f"{names[int(unknown.argmax())]!r}."
        )
        raise ValueError(msg)
    known: Mask = np.logical_and.reduce(np.isfinite(candidates), axis=1)
    if asking is tiles and side == among:
        known[rows] = False
    places = np.flatnonzero(known)
    if not len(places):
        msg = f"No tile to look at has an embedding of its {among} under {key!r}."
        raise ValueError(msg)
    found, similarities = nearest(unit_rows(vectors).mean(axis=0), candidates[places], n)
    centers = get_centers(tiles)[places[found]]
    return pd.DataFrame(
        {
            "tile": tiles.obs_names[places[found]],
            "similarity": similarities,
            "rank": np.arange(1, len(found) + 1),
            "x_um": centers[:, 0],
            "y_um": centers[:, 1],
        }
    )
