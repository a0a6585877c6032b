"""How alike the niches of two methods are in their cell types, whatever the niches are called."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stdistill._measures.composition import (
    CompositionJSD,
    compositions_of,
    jensen_shannon,
    largest_divergence,
    pair_niches,
    random_pairings,
)
from stdistill._measures.labels import check_several
from stdistill._support.arrays import Float64s
from stdistill._support.checks import check_integer, check_positive
from stdistill._table import schema
from stdistill._table.checks import get_table
from stdistill._table.labels import CELL_TYPE_HINT, NICHE_SUFFIX, find_columns, held_out, read_labels
from stdistill._table.provenance.checks import check_measured

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

ROUNDING = 1e-12
"""A random pairing that is the best one may sum to a little more than it."""


def composition_jsd(
    data: AnnData | SpatialData,
    *,
    cell_type_key: str,
    reference_key: str = f"{schema.TEACHER}{NICHE_SUFFIX}",
    keys: str | Sequence[str] | None = None,
    split_key: str | None = schema.SPLIT,
    n_permutations: int = 10_000,
    base: float = 2,
    seed: int = 0,
    table_key: str = schema.TABLE,
) -> CompositionJSD:
    """Pair the niches of each method with those of a reference by cell types, and measure what is left between them.

    The Jensen-Shannon divergence is taken between the cell-type composition of every niche of the reference and every
    niche of the method. Niches are paired one to one such that the mean divergence of the niches of the reference,
    weighted by their numbers of cells, is least.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with niches and cell types in categorical columns of ``.obs``.
    cell_type_key
        Column of the cell types.
    reference_key
        Column of the reference, by default the teacher's.
    keys
        Columns to compare with it. By default every ``*_niche`` column but the reference.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`; the default need not be there, and is found
        under another name too. The ``"test"`` cells are measured. `None` takes all cells.
    n_permutations
        Number of random pairings.
    base
        Of the logarithm. With 2 the divergence lies between 0 and 1.
    seed
        Of the random pairings.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    An object with

    ``summary``
        One row per ``method`` (the column): ``jsd``, the weighted mean; ``share_random``, the share of the random
        pairings that reach it; ``jsd_paired``, the mean over the niches that have a partner; ``share_paired``, the
        share of the cells in those; ``n_cells`` compared and ``n_left_out``.
    ``niches``
        One row per method and niche of the reference: ``method``, ``reference_niche``, ``niche`` (its partner, missing
        when there is none), ``jsd``, ``n_cells`` in the reference.
    ``divergences``, ``random``
        For each method the matrix of all divergences, partners in the same order, and the weighted means of the random
        pairings.
    ``base``, ``cells``
        The base, and which cells were compared (``"test"`` or ``"all"``).

    Cells without a cell type, a niche of the reference or one of the method are left out. Niches that are empty then
    take no part. Of unequal numbers of niches the smaller one is paired; a niche of the reference that is left without
    a partner counts with the largest divergence (1 with base 2), so that a method that finds fewer niches gains nothing
    by it. Nothing is written.

    Raises
    ------
    KeyError
        When the table, a column or the split is not there.
    TypeError
        When a column is not categorical.
    ValueError
        When a column is missing for every cell, or no cell has all three labels; the cells compared have one niche in
        the reference, or one cell type; there is no test cell; a column, the reference or what they stand on was fitted
        on test cells; a student was taught by another teacher than the one of this name in the table; or `base` is not
        above 1.

    Warns
    -----
    UserWarning
        When labels that were set by hand were changed since they taught the student that they are compared with.

    Notes
    -----
    Hizmi et al. 2026, section 5.5 and Table 2, on the held-out test cells (section 5.1: "All metrics are reported on
    the held-out test region"). It is the divergence, not its square root, the distance; the paper does not name its
    base, nor say whether the sum that its matching minimises is weighted, nor what becomes of niches without a partner:
    these are our choices. ``jsd_paired`` is the paper's mean "over paired niches", and equals ``jsd`` when all are
    paired.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> obs = pd.DataFrame(
    ...     {"teacher_niche": list("aabb"), "student_niche": list("2211"), "cell_type": list("TTTB")}, dtype="category"
    ... )
    >>> obs.index = obs.index.astype(str)
    >>> result = sd.tl.composition_jsd(ad.AnnData(np.zeros((4, 1)), obs=obs), cell_type_key="cell_type")
    >>> result.niches[["reference_niche", "niche", "jsd"]]
      reference_niche niche  jsd
    0               a     2  0.0
    1               b     1  0.0
    """
    check_integer(n_permutations, "n_permutations", minimum=1)
    check_integer(seed, "seed", minimum=0)
    check_positive(base, "base")
    if base <= 1:
        msg = f"base must be above 1, found {base}."
        raise ValueError(msg)
    adata = get_table(data, table_key)
    cell_types = read_labels(adata, cell_type_key, "cell_type_key", CELL_TYPE_HINT)
    reference = read_labels(adata, reference_key, "reference_key")
    chosen = find_columns(adata, keys, leave_out=reference_key)
    check_measured(adata, chosen, split_key, reference_key=reference_key)
    group, cells = held_out(adata, split_key)
    known = cells & cell_types.known & reference.known

    summaries, niches = [], []
    divergences: dict[str, pd.DataFrame] = {}
    random: dict[str, Float64s] = {}
    for key in chosen:
        labels = read_labels(adata, key, "keys")
        compared = known & labels.known
        if not compared.any():
            msg = (
                f"None of the {cells.sum()} cells ({group}) has a label in all of .obs[{cell_type_key!r}], "
                f".obs[{reference_key!r}] and .obs[{key!r}]."
            )
            raise ValueError(msg)
        check_several(reference, compared, f".obs[{reference_key!r}] (reference_key)")
        check_several(cell_types, compared, f".obs[{cell_type_key!r}] (cell_type_key)")
        rows, sizes, theirs = compositions_of(reference, cell_types, compared)
        columns, _, ours = compositions_of(labels, cell_types, compared)
        matrix = jensen_shannon(theirs, ours, base)
        partners, jsd = pair_niches(matrix, sizes, base)
        random[key] = random_pairings(matrix, sizes, base, n_permutations, seed)

        paired = partners >= 0
        weights = sizes / sizes.sum()
        own = np.where(paired, matrix[np.arange(len(rows)), partners], largest_divergence(base))
        niches.append(
            pd.DataFrame(
                {
                    "method": key,
                    "reference_niche": rows,
                    "niche": np.where(paired, columns[partners], None),
                    "jsd": own,
                    "n_cells": sizes,
                }
            )
        )
        order = np.r_[partners[paired], np.setdiff1d(np.arange(len(columns)), partners)]
        divergences[key] = pd.DataFrame(
            matrix[:, order], index=pd.Index(rows, name=reference_key), columns=pd.Index(columns[order], name=key)
        )
        n_cells = int(compared.sum())
        summaries.append(
            {
                "method": key,
                "jsd": jsd,
                "share_random": float((random[key] <= jsd + ROUNDING).mean()),
                "jsd_paired": float(np.average(own[paired], weights=weights[paired])),
                "share_paired": float(weights[paired].sum()),
                "n_cells": n_cells,
                "n_left_out": int(cells.sum()) - n_cells,
            }
        )
    logger.info("Compared the cell types of niches, base %g, on %d cells (%s).", base, cells.sum(), group)
    return CompositionJSD(
        summary=pd.DataFrame(summaries),
        niches=pd.concat(niches, ignore_index=True),
        divergences=divergences,
        random=random,
        base=float(base),
        cells=group,
    )
