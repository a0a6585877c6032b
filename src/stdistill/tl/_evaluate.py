"""The whole protocol of the paper on one slide."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from stdistill._table import schema
from stdistill._table.annotations import PolygonsUnit
from stdistill._table.checks import check_integer, get_centers, get_table
from stdistill._table.fitting.inputs import check_features
from stdistill.tl._choose_k import check_ks

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stdistill._flows.protocol import Evaluation


def evaluate(
    data: AnnData | SpatialData,
    *,
    ks: Iterable[int] = (10, 20),
    cell_type_key: str | None = None,
    label_key: str | None = None,
    polygons: str | Path | None = None,
    polygons_unit: PolygonsUnit = "px",
    out: str | Path | None = None,
    expression_epochs: int | None = None,
    teacher_epochs: int | None = None,
    student_epochs: int | None = None,
    seed: int = 0,
    table_key: str = schema.TABLE,
) -> Evaluation:
    """Evaluate a student on a slide by the protocol of the paper.

    For each number of niches a teacher, its student and two baselines that see H&E alone are fitted: the same
    self-distillation on H&E features (Histology-NOLAN), and Leiden clusters of them (Histology-Leiden). On the test
    cells each is compared with the teacher.

    What is missing beside the H&E features is made first, and said so in the log: the split
    (:func:`stdistill.pp.split_strips`), the neighbourhoods (:func:`stdistill.pp.neighborhoods`) and the expression
    latent (:func:`stdistill.pp.embed_expression`).

    Parameters
    ----------
    data
        Table with H&E features in ``.obsm["X_he"]``, or SpatialData with such a table, which is drawn with its H&E.
    ks
        Numbers of niches.
    cell_type_key
        Categorical column of ``.obs`` with cell types, to compare the niches' compositions.
    label_key, polygons, polygons_unit
        A pathologist's annotations, to be predicted from the niches: a categorical column of ``.obs``, or a GeoJSON
        file and what it is drawn in (``"px"`` of the H&E, as QuPath exports it, or ``"um"``), as of
        :func:`stdistill.tl.pathology_probe`.
    out
        Folder for models, tables, figures and ``manifest.json``. The same call goes on from it after a kill: what was
        finished is read and not computed again. Further `ks` and other cell types or annotations may be asked of it
        later.
    expression_epochs, teacher_epochs, student_epochs
        Passes over the training cells of scVI, of each of the two self-distillations, and of the student; by default
        those of the functions.
    seed
        Of all that is fitted, and of the random pairings.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    An object with frames of one row per ``method`` and ``k``, all on the test cells; as text it is the paper's tables.

    ``agreement``
        As of :func:`stdistill.tl.agreement`, with ``n_niches`` of the method that have test cells.
    ``composition_jsd``, ``pathology_probe``
        As the summary of :func:`stdistill.tl.composition_jsd`, and as of :func:`stdistill.tl.pathology_probe`, where
        the teacher has rows as well; `None` without cell types or annotations.
    ``steps``
        What was done, with ``seconds``.

    Written to the table for each k, as by :func:`stdistill.tl.nolan`, :func:`stdistill.tl.distill` and
    :func:`stdistill.tl.leiden` under the keys ``teacher_k10``, ``student_k10``, ``he_nolan_k10`` and ``he_leiden_k10``:
    logits, niches, confidences, colours (which follow the teacher's) and records.

    Raises
    ------
    KeyError
        When the table, the features or a column is not there.
    TypeError
        When features are no floating point array, `ks` is one number, or a column is not categorical.
    ValueError
        When a number is out of range, cell types or annotations cannot be used, no split can be made or has no test
        cell, or `out` is of a run on another slide or with other parameters.
    FileExistsError
        When `out` holds something else.

    Notes
    -----
    Hizmi et al. 2026, section 5: ``agreement`` is Table 1, ``composition_jsd`` Table 2 and ``pathology_probe`` Table 3,
    of one slide; the figures are those of Figures 3 and 4. What the paper leaves open is said where each measure is.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((600, 1)), obsm={"spatial": rng.uniform(0, 600, (600, 2))})
    >>> niche = adata.obsm["spatial"][:, 0] // 200
    >>> adata.obsm["X_scVI"] = (np.eye(3)[niche.astype(int)] + rng.normal(0, 0.3, (600, 3))).astype("float32")
    >>> adata.obsm["X_he"] = (np.eye(3)[niche.astype(int)] + rng.normal(0, 0.3, (600, 3))).astype("float16")
    >>> sd.pp.split_strips(adata, mpp=0.1)
    >>> result = sd.tl.evaluate(adata, ks=[3], teacher_epochs=2, student_epochs=2)
    >>> result.agreement["method"].tolist()
    ['Histology-NOLAN', 'Histology-Leiden', 'Student']
    """
    numbers = check_ks(ks)
    check_integer(seed, "seed", minimum=0)
    epochs = {
        "expression_epochs": expression_epochs,
        "teacher_epochs": teacher_epochs,
        "student_epochs": student_epochs,
    }
    for name, value in epochs.items():
        if value is not None:
            check_integer(value, name, minimum=1)
    table = get_table(data, table_key)
    get_centers(table)
    check_features([table], schema.HE_FEATURES)

    from stdistill._flows.prepare import Training
    from stdistill._flows.protocol import Asked, run_protocol
    from stdistill._runs.folder import Run

    asked = Asked(numbers, cell_type_key, label_key, None if polygons is None else str(polygons), polygons_unit)
    training = Training(**epochs, seed=seed)
    run = Run(out, command="evaluate", parameters=training._asdict(), asked=asked._asdict())
    return run_protocol(run, data, asked, training, table_key=table_key)
