"""How much niches say of a pathologist's annotations: a linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._measures.probe import predict_linear
from stdistill._runs.annotations import annotated_folds
from stdistill._support.arrays import Mask
from stdistill._support.checks import check_key
from stdistill._table import schema
from stdistill._table.annotations import BLOCK_UM, GAP_UM, N_FOLDS, PolygonsUnit, Protocol, check_fit
from stdistill._table.checks import get_table
from stdistill._table.labels import NICHE_SUFFIX, find_columns, read_labels
from stdistill._table.niches import logit_columns, logit_prefixes, read_logits
from stdistill._table.provenance.checks import check_measured

if TYPE_CHECKING:
    from spatialdata import SpatialData


def pathology_probe(
    data: AnnData | SpatialData,
    *,
    label_key: str | None = None,
    polygons: str | Path | None = None,
    polygons_unit: PolygonsUnit = "px",
    keys: str | Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    use_logits: bool = False,
    protocol: Protocol = "blocks",
    split_key: str | None = schema.SPLIT,
    n_folds: int = N_FOLDS,
    block_um: float = BLOCK_UM,
    gap_um: float = GAP_UM,
    image_key: str = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    table_key: str = schema.TABLE,
) -> pd.DataFrame:
    """Predict a pathologist's annotation of each cell from its niche alone, and score it.

    A linear support vector machine is fitted to the niches, one-hot, and scored on cells elsewhere.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with niches in categorical columns of ``.obs``.
    label_key
        Categorical column of ``.obs`` with the annotations; missing where there is none. Either this or `polygons`.
    polygons
        GeoJSON file of annotated polygons, as QuPath exports them, also in a gzip or zip: the class is
        ``classification.name`` of the properties, else ``name``. Or a CSV of selections, as Xenium Explorer exports it,
        in µm. Of polygons that overlap the smallest counts; features that cannot be used are left out with a warning.
    polygons_unit
        What the polygons are drawn in: ``"px"``, pixels of the H&E at full resolution, as QuPath exports them, or
        ``"um"``, µm in the frame of ``.obsm["spatial"]``. Pixels need a SpatialData with the H&E, or a table that
        :func:`stdistill.pp.read_xenium` read with one: see :func:`stdistill.get.he_pixels`.
    keys
        Columns of niches. By default every ``*_niche`` column.
    labels
        The annotations to tell apart; cells with others are left out. By default all.
    use_logits
        Predict from the logits ``.obs["teacher_logit_0"]``… instead of the niche, each scaled to unit variance.
    protocol
        ``"blocks"`` fits and scores on the test cells, or without a split on all, in turns: the slide is cut into
        square blocks, those are dealt into folds, and each fold is predicted from the others. ``"split"`` fits on the
        training cells and scores on the test cells.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`; the default need not be there, and is found
        under another name too. `None` ignores it.
    n_folds, block_um, gap_um
        Number of folds and side of the blocks, of ``"blocks"``. Cells nearer than `gap_um` to a block are not used to
        predict it, so that neighbours do not leak: 120 µm keep neighbourhoods of a radius of 60 µm apart.
    image_key
        Name of the H&E of a SpatialData that polygons in pixels were drawn on.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    One row per column: ``method`` (the column), ``macro_f1`` of the predictions of all folds together, ``n_cells``
    scored, and ``n_left_out``: annotated, but without a niche. Nothing is written.

    Raises
    ------
    FileNotFoundError
        When there is no file `polygons`.
    KeyError
        When the table, a column, the split or the logits are not there.
    TypeError
        When a column is not categorical.
    ValueError
        When there are not two annotations to tell apart, one of them cannot be both fitted and scored (it lies in one
        block, or in one group of the split), polygons cover no cell, it is not known where the cells lie on the H&E of
        polygons in pixels, niches or what they stand on were fitted on test cells, or a parameter is out of range.

    Notes
    -----
    Hizmi et al. 2026, section 5.6 and Table 3. The paper says: a lightweight SVM, niche assignments, macro-F1, the
    three most frequent tumour annotations (`labels`), cells without one left out; and, of all its metrics, that they
    are reported on the held-out test cells (section 5.1). It does not say which cells its SVM is fitted on, its kernel,
    its class weights, nor whether niches are one-hot or logits. ``protocol="split"`` is the nearest reading of it.
    Blocks are our default: they test within the one region that no method was trained on. The machine is
    :class:`sklearn.svm.LinearSVC` with its defaults. On one-hot niches it is fitted to the distinct pairs of niche and
    annotation, weighted by their numbers of cells, which is the same fit.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> centers = np.random.default_rng(0).uniform(0, 3000, (2000, 2))
    >>> tumour = np.where(np.sin(centers[:, 0] / 300) > 0, "Tumour 1", "Tumour 2")
    >>> obs = pd.DataFrame({"student_niche": tumour, "annotation": tumour}, dtype="category")
    >>> obs.index = obs.index.astype(str)
    >>> adata = ad.AnnData(np.zeros((2000, 1)), obs=obs, obsm={"spatial": centers})
    >>> sd.tl.pathology_probe(adata, label_key="annotation")
              method  macro_f1  n_cells  n_left_out
    0  student_niche       1.0     2000           0
    """
    from sklearn.metrics import f1_score

    adata = get_table(data, table_key)
    chosen = find_columns(adata, keys)
    check_measured(adata, chosen, split_key)
    features = {key: _features(adata, key, use_logits) for key in chosen}
    truth, annotated, folds = annotated_folds(
        data,
        label_key=label_key,
        polygons=polygons,
        polygons_unit=polygons_unit,
        labels=labels,
        protocol=protocol,
        split_key=split_key,
        n_folds=n_folds,
        block_um=block_um,
        gap_um=gap_um,
        image_key=image_key,
        coordinate_system=coordinate_system,
        table_key=table_key,
    )
    rows = []
    for key in chosen:
        known, inputs = features[key]
        predicted = np.full(adata.n_obs, -1)
        for fold in folds:
            fit, score = fold.fit[known[fold.fit]], fold.score[known[fold.score]]
            check_fit(truth, fit, f" and with a niche in .obs[{key!r}]")
            predicted[score] = predict_linear(inputs, truth.codes, fit, score)
        scored = np.concatenate([fold.score for fold in folds])
        used = scored[known[scored]]
        if not len(used):
            msg = f"None of the {len(scored)} annotated cells has a niche in .obs[{key!r}]."
            raise ValueError(msg)
        present = np.unique(truth.codes[annotated])
        macro_f1 = f1_score(truth.codes[used], predicted[used], labels=present, average="macro", zero_division=0)
        rows.append((key, float(macro_f1), len(used), len(scored) - len(used)))
    return pd.DataFrame(rows, columns=["method", "macro_f1", "n_cells", "n_left_out"])


def _features(adata: AnnData, key: str, use_logits: bool) -> tuple[Mask, npt.NDArray[Any]]:
    """Return which cells have a niche, and the niches (n,) or logits (n, k)."""
    niches = read_labels(adata, key, "keys")
    if not use_logits:
        return niches.known, niches.codes
    prefix = key.removesuffix(NICHE_SUFFIX)
    if not logit_columns(adata, prefix):
        check_key(prefix, logit_prefixes(adata), "a prefix of logits in .obs", argument="keys")
    logits = read_logits(adata, prefix)
    return np.asarray(np.isfinite(logits).all(axis=1)), logits
