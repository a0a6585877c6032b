"""The same colour, or name, for the niches of two methods that cover the same tissue."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stdistill._measures.labels import cross_table
from stdistill._measures.matching import best_partners
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_table
from stdistill._table.labels import read_labels
from stdistill._table.niches import colors_of, default_colors
from stdistill._table.records import write_record

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")


def match_niches(
    data: AnnData | SpatialData,
    *,
    reference_key: str,
    key: str,
    rename: bool = False,
    table_key: str = schema.TABLE,
    copy: bool = False,
) -> AnnData | SpatialData | None:
    """Give the niches of a method the colours of the niches of another that they share most cells with.

    Niches are paired one to one such that as many cells as possible are in a pair. A niche without a partner, because
    the other method has fewer or shares no cell with it, gets a colour that the reference does not use.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with niches in categorical columns of ``.obs``.
    reference_key
        Column whose niches keep their names and colours.
    key
        Column to recolour.
    rename
        Also give the niches of `key` the names of their partners. The order of the categories stays, so that each is
        still that of its logit; a niche without a partner keeps its name, with ``_`` appended while the reference
        has it.
    table_key
        Name of the table of a SpatialData.
    copy
        Return a copy with the result instead of writing to `data`. Of a SpatialData the table is copied.

    Returns
    -------
    `None`, or the copy. Written to the table:

    ``.uns["{key}_colors"]``
        Colours of the niches, in the order of the categories.
    ``.uns["{reference_key}_colors"]``
        The default colours, when there were none.
    ``.obs[key]``
        With `rename`, under the new names.
    ``.uns["stdistill"]["match_niches_{key}"]``
        The parameters (`key` as ``key_added``), and ``share_matched``: the share of the cells that both label which are
        in a pair.

    Raises
    ------
    KeyError
        When the table or a column is not there.
    TypeError
        When a column is not categorical.
    ValueError
        When both columns are the same, one is missing for every cell, or no cell has both labels.

    Notes
    -----
    Our choice; the paper's figures colour the same tissue alike and do not say how.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> obs = pd.DataFrame({"teacher_niche": list("aabb"), "he_leiden_niche": list("1100")}, dtype="category")
    >>> obs.index = obs.index.astype(str)
    >>> adata = ad.AnnData(np.zeros((4, 1)), obs=obs)
    >>> adata.uns["teacher_niche_colors"] = ["#0000ff", "#ffa90e"]
    >>> sd.tl.match_niches(adata, reference_key="teacher_niche", key="he_leiden_niche")
    >>> list(adata.uns["he_leiden_niche_colors"])  # of niche 0, which is b, and of niche 1
    ['#ffa90e', '#0000ff']
    """
    if key == reference_key:
        msg = f"key and reference_key are both {key!r}: there is nothing to match."
        raise ValueError(msg)
    if copy:
        data = copy_table(data, table_key)
    adata = get_table(data, table_key)
    reference = read_labels(adata, reference_key, "reference_key")
    labels = read_labels(adata, key, "key")
    overlap = cross_table(labels, reference, reference.known & labels.known)
    if not overlap.any():
        msg = f"No cell has a niche in both .obs[{reference_key!r}] and .obs[{key!r}]."
        raise ValueError(msg)
    partners = best_partners(overlap)
    reference_colors = colors_of([adata], reference_key, reference.names)
    used = {color.lower() for color in reference_colors}
    enough = default_colors(len(reference.names) + len(labels.names))
    unused = [color for color in enough if color not in used] or enough
    colors = _hand_out(partners, reference_colors, unused)
    paired = partners >= 0
    share_matched = float(overlap[paired, partners[paired]].sum() / overlap.sum())

    if rename:
        new_names = _new_names(labels.names, partners, reference.names)
        adata.obs[key] = adata.obs[key].cat.rename_categories(new_names)
    adata.uns[f"{reference_key}_colors"] = np.array(reference_colors, dtype=object)
    adata.uns[f"{key}_colors"] = np.array(colors, dtype=object)
    write_record(
        adata, "match_niches", reference_key=reference_key, key_added=key, rename=rename, share_matched=share_matched
    )
    logger.info(
        'Wrote .uns["%s_colors"]: %d of %d niches have a partner, with %.1f %% of the cells in common.',
        key,
        paired.sum(),
        len(partners),
        100 * share_matched,
    )
    return data if copy else None


def _hand_out(partners: npt.NDArray[np.integer], theirs: Sequence[str], unused: Sequence[str]) -> list[str]:
    """Give each niche its partner's colour, the others unused ones in turn."""
    turn = np.cumsum(partners < 0) - 1
    return [
        theirs[partner] if partner >= 0 else unused[n % len(unused)] for partner, n in zip(partners, turn, strict=True)
    ]


def _new_names(names: Sequence[str], partners: npt.NDArray[np.integer], theirs: Sequence[str]) -> list[str]:
    taken = set(theirs)
    new_names = []
    for name, partner in zip(names, partners, strict=True):
        new = name
        if partner >= 0:
            new = theirs[partner]
        else:
            while new in taken:
                new += "_"
            taken.add(new)
        new_names.append(new)
    return new_names
