"""Agreement of niche labels with a reference: adjusted Rand index and normalised mutual information."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stdistill._measures.labels import check_several
from stdistill._support.arrays import Mask
from stdistill._table import schema
from stdistill._table.checks import get_table
from stdistill._table.labels import ALL_CELLS, NICHE_SUFFIX, find_columns, read_labels, read_split
from stdistill._table.provenance.checks import check_measured

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData


def agreement(
    data: AnnData | SpatialData,
    *,
    reference_key: str = f"{schema.TEACHER}{NICHE_SUFFIX}",
    keys: str | Sequence[str] | None = None,
    split_key: str | None = schema.SPLIT,
    table_key: str = schema.TABLE,
) -> pd.DataFrame:
    """Measure how well niche labels agree with a reference, in each group of the split.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with niche labels in categorical columns of ``.obs``.
    reference_key
        Column of the reference, by default the teacher's.
    keys
        Columns to compare with it. By default every ``*_niche`` column but the reference.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`; the default need not be there, and is found
        under another name too. Cells in the buffer, and cells of no group, are not measured. `None` takes all cells as
        one group.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    One row per column and group: ``method`` (the column), ``split`` (``"train"``, ``"test"``; ``"all"`` without a
    split), ``ari``, ``nmi``, ``n_cells`` that have both labels, and ``n_left_out`` of the group that do not. Both
    measures are NaN in a group in which the column labels no cell of the reference. Nothing is written.

    Raises
    ------
    KeyError
        When the table, a column or the split is not there.
    TypeError
        When a column is not categorical.
    ValueError
        When a column is missing for every cell, or wherever the reference is not; the reference has one niche in a
        group; the split has neither training nor test cells; a column, the reference or what they stand on was fitted
        on test cells; or a student was taught by another teacher than the one of this name in the table.

    Warns
    -----
    UserWarning
        When labels that were set by hand were changed since they taught the student that they are compared with.

    Notes
    -----
    Hizmi et al. 2026, section 5.4; their Table 1 has mean and standard deviation of the ``"test"`` rows over slides.
    :func:`sklearn.metrics.adjusted_rand_score` and :func:`sklearn.metrics.normalized_mutual_info_score` with its
    default, the arithmetic mean of both entropies; the paper does not name its normalisation.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> obs = pd.DataFrame({"teacher_niche": list("aabbcc"), "student_niche": list("112233")}, dtype="category")
    >>> obs.index = obs.index.astype(str)
    >>> sd.tl.agreement(ad.AnnData(np.zeros((6, 1)), obs=obs))[["method", "split", "ari", "nmi"]]
              method split  ari  nmi
    0  student_niche   all  1.0  1.0
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    adata = get_table(data, table_key)
    reference = read_labels(adata, reference_key, "reference_key")
    chosen = find_columns(adata, keys, leave_out=reference_key)
    check_measured(adata, chosen, split_key, reference_key=reference_key)
    groups = _groups(adata, split_key)
    rows = []
    for key in chosen:
        labels = read_labels(adata, key, "keys")
        both = reference.known & labels.known
        if not any((both & cells).any() for cells in groups.values()):
            msg = f"No cell of {list(groups)} has a label in both .obs[{reference_key!r}] and .obs[{key!r}]."
            raise ValueError(msg)
        for group, cells in groups.items():
            compared = both & cells
            ari = nmi = np.nan
            if compared.any():
                check_several(reference, compared, f".obs[{reference_key!r}] (reference_key, split {group!r})")
                pair = reference.codes[compared], labels.codes[compared]
                ari, nmi = adjusted_rand_score(*pair), normalized_mutual_info_score(*pair)
            n_cells = int(compared.sum())
            rows.append((key, group, float(ari), float(nmi), n_cells, int(cells.sum()) - n_cells))
    return pd.DataFrame(rows, columns=["method", "split", "ari", "nmi", "n_cells", "n_left_out"])


def _groups(adata: AnnData, split_key: str | None) -> dict[str, Mask]:
    """Return the cells of each group of the split that has some, but for the buffer."""
    split = read_split(adata, split_key)
    if split is None:
        return {ALL_CELLS: np.ones(adata.n_obs, dtype=bool)}
    cells = {name: split.codes == code for code, name in enumerate(split.names) if name != schema.BUFFER}
    groups = {name: mask for name, mask in cells.items() if mask.any()}
    if not groups:
        msg = f"No cell is {schema.TRAIN!r} or {schema.TEST!r} in the split. Give split_key=None to take all cells."
        raise ValueError(msg)
    return groups
