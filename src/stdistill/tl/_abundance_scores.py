"""Scores of predicted abundances: how well they agree with those that were measured."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill._measures.abundances.scores import score
from stdistill._support.arrays import Floats, Mask
from stdistill._support.checks import as_names
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.abundances import Abundances, check_taught_abundances, read_abundances
from stdistill._table.checks import get_centers, get_table
from stdistill._table.labels import ALL_CELLS
from stdistill._table.libraries import find_library_key, library_codes, warn_of_overlap
from stdistill._table.provenance.results import fitted_cells
from stdistill._table.records import find_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

OTHER_UNIT = 10
"""No prediction that is of use is so many times too much, or too little, of all types together."""
FITTED, UNSEEN = "fitted", "unseen"


def abundance_scores(
    data: AnnData | SpatialData,
    *,
    keys: str | Sequence[str],
    reference_key: str = schema.ABUNDANCE,
    library_key: str | None = None,
    table_key: str = schema.TABLE,
) -> pd.DataFrame:
    """Score abundances, per type and in all, on cells or spots that a model was fitted on and on those that it was not.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with abundances that :func:`stdistill.pp.abundances` or a model wrote.
    keys
        Keys of ``.obsm`` of the abundances to score. Types go by their names; types that the reference does not have
        are not scored.
    reference_key
        Key of the abundances that count as true.
    library_key
        Column of ``.obs`` that names each row's section. By default that of the neighbourhoods, or the regions that the
        table annotates, when there are several; else all rows are one section.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    One row per key, group of cells and type, and one with the type ``"all"``:

    ``key``, ``cells``, ``type``
        ``cells`` is ``"fitted"`` or ``"unseen"`` by ``.obs["{key}_fitted"]``, and ``"all"`` where there is no such
        column.
    ``cc``
        Pearson's correlation over the rows of a section; of a type the mean over sections, in all the mean over types
        and then over sections. A type whose truth does not vary in a section takes no part there; NaN when none does.
    ``l1``
        Mean absolute error over rows (and types), in the unit of the abundances.
    ``skill``
        1 - ``l1`` over the ``l1`` of saying the training mean everywhere: 0 is no better than that. NaN where the
        record of the key does not hold the mean of its training.
    ``n_rows``, ``n_undefined``
        Rows that were compared; sections (and types) in which the truth varies and the prediction is constant, which
        has no correlation and is left out of ``cc``.

    Nothing is written. Rows that are not known in the key or the reference are left out, and groups without any row.

    Raises
    ------
    KeyError
        When the table, a key, or `library_key` is not there.
    TypeError
        When what is under a key is a frame or holds no numbers.
    ValueError
        When no key is given, a prediction lacks types of the reference, is of several models, learned other abundances
        than those that stand under the key of the reference now, or has no row in common with the reference.

    Warns
    -----
    UserWarning
        When places hold ten times as much of all types in a key as in the reference, or a tenth.

    Notes
    -----
    Sun, Zhu and Qiu 2025 (arXiv 2507.07013) report CC and L1, and do not say over what they are averaged. The order
    here, over the spots of a section, then types, then sections, is that of Hist2Cell's published code; counting what
    is undefined, and the skill, are our choice. See :doc:`/concepts/composition` for how each can mislead.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> spots = ad.AnnData(np.zeros((4, 1)))
    >>> truth = pd.DataFrame({"T": [0.0, 1, 2, 3], "B": [3.0, 2, 1, 0]}, index=spots.obs_names)
    >>> spots.obsm["truth"], spots.obsm["guess"] = truth, truth.assign(B=1.5)
    >>> sd.pp.abundances(spots, obsm_key="truth")
    >>> sd.pp.abundances(spots, obsm_key="guess", key_added="guess")
    >>> sd.tl.abundance_scores(spots, keys="guess")[["type", "cc", "l1", "n_undefined"]]
      type   cc   l1  n_undefined
    0    T  1.0  0.0            0
    1    B  NaN  1.0            1
    2  all  1.0  0.5            1
    """
    adata = get_table(data, table_key)
    chosen = as_names(keys, "keys", "the abundances in .obsm to score")
    truth = read_abundances(adata, reference_key, "reference_key")
    library_key = find_library_key(adata, library_key)
    libraries = library_codes(adata, library_key)
    if library_key is None and schema.SPATIAL in adata.obsm:
        warn_of_overlap(adata, get_centers(adata), "Correlations go over all of them: name the slides, library_key=.")
    frames = []
    for key in chosen:
        check_taught_abundances(adata, key, reference_key)
        found = read_abundances(adata, key, "keys")
        columns = _columns(found, truth, key, reference_key)
        training_mean = _training_mean(adata, key, found)
        compared = truth.known & found.known
        if not compared.any():
            msg = f"No row is known in both .obsm[{key!r}] and .obsm[{reference_key!r}] (reference_key)."
            raise ValueError(msg)
        _warn_of_other_unit(found.values[compared][:, columns], truth.values[compared], key, reference_key)
        for name, cells in _groups(adata, key).items():
            rows = np.flatnonzero(cells & compared)
            if not len(rows):
                continue
            scores = score(
                found.values[rows][:, columns],
                truth.values[rows],
                libraries[rows],
                None if training_mean is None else training_mean[columns],
            )
            frame = scores.frame(truth.types)
            for column, value in (("cells", name), ("key", key)):
                frame.insert(0, column, value)
            frames.append(frame)
            logger.info("%s: CC %.3f, L1 %.4g on %d rows (%s).", key, scores.cc, scores.l1, scores.n_rows, name)
    return pd.concat(frames, ignore_index=True)


def _columns(found: Abundances, truth: Abundances, key: str, reference_key: str) -> list[int]:
    """Return the column of a prediction for each type of the reference."""
    missing = [name for name in truth.types if name not in found.types]
    if missing:
        msg = (
            f".obsm[{key!r}] lacks {len(missing)} of the {len(truth.types)} types of .obsm[{reference_key!r}]: "
            f"{missing}; it has {found.types}. Score it against a reference of its own types."
        )
        raise ValueError(msg)
    return [found.types.index(name) for name in truth.types]


def _warn_of_other_unit(found: Floats, truth: Floats, key: str, reference_key: str) -> None:
    """Warn when places hold so much more in one than in the other that these are no numbers of the same thing."""
    totals = [float(np.median(values.sum(axis=1))) for values in (found, truth)]
    if min(totals) > 0 and max(totals) >= OTHER_UNIT * min(totals):
        warn(
            f"Places have {totals[0]:.3g} of all types in .obsm[{key!r}] and {totals[1]:.3g} in "
            f".obsm[{reference_key!r}] (medians): shares beside percent or numbers of cells? cc does not see it, but "
            "l1 and skill mean nothing. Run sd.pp.abundances on what is in one unit."
        )


def _training_mean(adata: AnnData, key: str, found: Abundances) -> Floats | None:
    """Return the mean of each type over what a prediction was fitted on, where it is recorded."""
    recorded = find_record(adata, schema.ABUNDANCE_STEPS, key)[1].get("training_mean")
    return None if recorded is None or len(recorded) != len(found.types) else np.asarray(recorded, dtype=np.float64)


def _groups(adata: AnnData, key: str) -> dict[str, Mask]:
    """Return the cells that a prediction was not fitted on, and those that it was; all where it is not known."""
    if f"{key}{schema.FITTED_SUFFIX}" not in adata.obs:
        return {ALL_CELLS: np.ones(adata.n_obs, dtype=bool)}
    fitted = fitted_cells(adata, key)
    return {UNSEEN: ~fitted, FITTED: fitted}
