"""The protocol of the paper: a teacher, its student and the baselines, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stdistill._measures.labels import check_several
from stdistill._runs.annotations import annotated_folds
from stdistill._runs.evaluation import Asked, Evaluation
from stdistill._runs.folder import Run
from stdistill._runs.prepare import Machine, Training, fit_model, prepare, split
from stdistill._support.checks import check_integer
from stdistill._support.files import replacing
from stdistill._table import schema
from stdistill._table.annotations import PolygonsUnit
from stdistill._table.checks import get_centers, get_table
from stdistill._table.fitting.inputs import check_features
from stdistill._table.fitting.results import check_ks
from stdistill._table.labels import CELL_TYPE_HINT, NICHE_SUFFIX, held_out, read_labels
from stdistill._table.provenance.checks import check_features_unseen
from stdistill.tl._agreement import agreement
from stdistill.tl._composition_jsd import composition_jsd
from stdistill.tl._distill import distill
from stdistill.tl._kmeans_niches import kmeans_niches
from stdistill.tl._leiden import leiden
from stdistill.tl._logistic_niches import logistic_niches
from stdistill.tl._match_niches import match_niches
from stdistill.tl._nolan import nolan
from stdistill.tl._pathology_probe import pathology_probe

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

TEACHER, STUDENT, HE_NOLAN, HE_LEIDEN = schema.TEACHER, schema.STUDENT, "he_nolan", schema.HE_LEIDEN
HE_KMEANS, LOGISTIC, ALONE = "he_kmeans", schema.LOGISTIC, "alone"
NAMES = {
    TEACHER: "Teacher",
    STUDENT: "Student",
    ALONE: "Student without neighbours",
    LOGISTIC: "Logistic regression",
    HE_NOLAN: "Histology-NOLAN",
    HE_LEIDEN: "Histology-Leiden",
    HE_KMEANS: "Histology-k-means",
}
"""Names of the methods, by the prefixes of what they write; in the order of the figures."""
WITHOUT_TEACHER = [HE_NOLAN, HE_LEIDEN, HE_KMEANS]
COMPARED = [*WITHOUT_TEACHER, LOGISTIC, ALONE, STUDENT]
"""With the teacher, in the order of the tables."""


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

    For each number of niches a teacher, its student and five baselines that see H&E alone are fitted. Three of them
    have no teacher: the same self-distillation on H&E features (Histology-NOLAN), Leiden clusters of them
    (Histology-Leiden), and k-means of their means over neighbourhoods (Histology-k-means). Two are taught by the same
    teacher: logistic regression on such means, and a student that sees each cell without its neighbours. On the test
    cells each is compared with the teacher.

    What is missing beside the H&E features is made first, and said so in the log: the split
    (:func:`stdistill.pp.split_strips`), the neighbourhoods (:func:`stdistill.pp.neighborhoods`) and the expression
    latent (:func:`stdistill.pp.embed_expression`).

    Parameters
    ----------
    data
        Table with H&E features in ``.obsm["X_he"]``, or SpatialData with such a table.
    ks
        Numbers of niches.
    cell_type_key
        Categorical column of ``.obs`` with cell types, to compare the niches' compositions.
    label_key, polygons, polygons_unit
        A pathologist's annotations, to be predicted from the niches: a categorical column of ``.obs``, or a GeoJSON
        file and what it is drawn in (``"px"`` of the H&E, as QuPath exports it, or ``"um"``), as of
        :func:`stdistill.tl.pathology_probe`.
    out
        Folder for models, tables and ``manifest.json``; ``stdistill evaluate`` draws figures as well. The same call
        goes on from it after a kill: what was finished is read and not computed again. Further `ks` and other cell
        types or annotations may be asked of it later.
    expression_epochs, teacher_epochs, student_epochs
        Passes over the training cells of scVI, of each of the two self-distillations, and of each of the two students;
        by default those of the functions.
    seed
        Of all that is fitted, and of the random pairings.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    An object with frames of one row per ``method`` and ``k``, all on the test cells; as text it is the paper's tables.

    ``agreement``
        As of :func:`stdistill.tl.agreement`, with ``n_niches`` of the method that have test cells, and ``gain``: the
        share of the gap between the ARI of the best method without a teacher and 1 that the method closes, (ARI - best)
        / (1 - best). 0 is the best of the three, 1 the teacher itself; less than 0 is worse than without a teacher. NaN
        where the best has an ARI of 1.
    ``composition_jsd``, ``pathology_probe``
        As the summary of :func:`stdistill.tl.composition_jsd`, and as of :func:`stdistill.tl.pathology_probe`, where
        the teacher has rows as well; `None` without cell types or annotations.
    ``steps``
        What was done, with ``seconds``.

    Written to the table for each k, as by the functions that fit them: logits (but of Leiden), niches, confidences,
    colours (which follow the teacher's) and records, under the keys ``teacher_k10`` and ``he_nolan_k10``
    (:func:`stdistill.tl.nolan`), ``student_k10`` and ``alone_k10`` (:func:`stdistill.tl.distill`), ``logistic_k10``
    (:func:`stdistill.tl.logistic_niches`), ``he_leiden_k10`` (:func:`stdistill.tl.leiden`) and ``he_kmeans_k10``
    (:func:`stdistill.tl.kmeans_niches`).

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
    of one slide. What the paper leaves open is said where each measure is. The paper has Histology-NOLAN and
    Histology-Leiden; the other baselines and ``gain`` are our choice. By its Table 1 the paper's student closes .46 of
    the gap at K = 10 and .35 at K = 20.

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
    >>> result.agreement["method"].tolist()[-3:]
    ['Logistic regression', 'Student without neighbours', 'Student']
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

    asked = Asked(numbers, cell_type_key, label_key, None if polygons is None else str(polygons), polygons_unit)
    training = Training(expression_epochs, teacher_epochs, student_epochs, seed)
    with Run(out, command="evaluate", parameters=training.parameters, asked=asked._asdict()) as run:
        return run_protocol(run, data, asked, training, machine=Machine(), table_key=table_key)


def run_protocol(
    run: Run,
    data: AnnData | SpatialData,
    asked: Asked,
    training: Training,
    *,
    machine: Machine,
    encoder: str = "auto",
    table_key: str = schema.TABLE,
) -> Evaluation:
    """Run the protocol on a slide; the tables go to the folder of the run."""
    split(run, data, table_key)
    _check_asked(data, asked, table_key)
    cells = prepare(run, data, training, machine=machine, encoder=encoder, table_key=table_key)
    for k in asked.ks:
        _fit_methods(run, cells, k, training, machine)
    tables = {}
    for name, measure in _measures(data, asked, training.seed, table_key).items():
        tables[name] = run.step(name, partial(_for_each_k, asked.ks, measure))
        if run.folder is not None:
            with replacing(run.folder / f"{name}.csv") as new:
                tables[name].to_csv(new, index=False)
    return Evaluation(steps=run.steps, **tables)


def _check_asked(data: AnnData | SpatialData, asked: Asked, table_key: str) -> None:
    """Raise for features, cell types and annotations that could not be used, before hours of training."""
    cells = get_table(data, table_key)
    group, measured = held_out(cells, schema.SPLIT)
    for use_rep in (schema.HE_FEATURES, schema.EXPRESSION_LATENT):
        check_features_unseen(cells, use_rep, schema.SPLIT)
    if asked.cell_type_key is not None:
        cell_types = read_labels(cells, asked.cell_type_key, "cell_type_key", CELL_TYPE_HINT)
        typed = measured & cell_types.known
        if not typed.any():
            msg = f"None of the {measured.sum()} cells ({group}) has a cell type in .obs[{asked.cell_type_key!r}]."
            raise ValueError(msg)
        check_several(cell_types, typed, f".obs[{asked.cell_type_key!r}] (cell_type_key)")
    if asked.has_annotations:
        annotated_folds(data, table_key=table_key, **asked.annotations)


def _fit_methods(run: Run, cells: AnnData, k: int, training: Training, machine: Machine) -> None:
    """Fit all methods, under keys that tell the numbers of niches apart; the same tissue gets the same colour."""
    key = {prefix: f"{prefix}_k{k}" for prefix in NAMES}
    fit = partial(fit_model, run, cells, training=training, machine=machine, k=k)

    def fit_plain(prefix: str, plain: Callable[..., object], **arguments: Any) -> None:
        written = key[prefix]
        run.write_step(cells, written, lambda _: plain(cells, key_added=written, seed=training.seed, **arguments))

    fit(key[TEACHER], nolan, use_rep=schema.EXPRESSION_LATENT, max_epochs=training.teacher_epochs)
    fit_student = partial(fit, fit=distill, teacher_key=key[TEACHER], max_epochs=training.student_epochs)
    fit_student(key[STUDENT])
    fit_student(key[ALONE], max_tokens=1)
    fit_plain(LOGISTIC, logistic_niches, teacher_key=key[TEACHER])
    fit(key[HE_NOLAN], nolan, use_rep=schema.HE_FEATURES, max_epochs=training.teacher_epochs)
    fit_plain(HE_LEIDEN, leiden, k=k)
    fit_plain(HE_KMEANS, kmeans_niches, k=k, use_rep=schema.HE_FEATURES)
    for prefix in WITHOUT_TEACHER:
        match_niches(cells, reference_key=niche_column(TEACHER, k), key=niche_column(prefix, k))


def _measures(
    data: AnnData | SpatialData, asked: Asked, seed: int, table_key: str
) -> dict[str, Callable[[int], pd.DataFrame]]:
    """Name what was asked for, each for one k, on the test cells."""
    cells = get_table(data, table_key)
    measures: dict[str, Callable[[int], pd.DataFrame]] = {"agreement": lambda k: _agreement(cells, k)}
    if asked.cell_type_key is not None:
        cell_type_key = asked.cell_type_key
        measures["composition_jsd"] = lambda k: (
            composition_jsd(
                cells,
                cell_type_key=cell_type_key,
                reference_key=niche_column(TEACHER, k),
                keys=_columns(COMPARED, k),
                seed=seed,
            ).summary
        )
    if asked.has_annotations:
        measures["pathology_probe"] = lambda k: pathology_probe(
            data, keys=_columns([*COMPARED, TEACHER], k), table_key=table_key, **asked.annotations
        )
    return measures


def _for_each_k(ks: Sequence[int], measure: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([_named(measure(k), k) for k in ks], ignore_index=True)


def _agreement(cells: AnnData, k: int) -> pd.DataFrame:
    group, measured = held_out(cells, schema.SPLIT)
    keys = _columns(COMPARED, k)
    rows = agreement(cells, reference_key=niche_column(TEACHER, k), keys=keys)
    of_group = rows[rows["split"] == group].drop(columns="split")
    of_group.insert(2, "gain", _gain(of_group["ari"], of_group["method"].isin(_columns(WITHOUT_TEACHER, k))))
    return of_group.assign(n_niches=[cells.obs.loc[measured, key].nunique() for key in keys])


def _gain(ari: pd.Series[float], without_teacher: pd.Series[bool]) -> pd.Series[float]:
    """Return which share of what the best method without a teacher leaves to 1 each method closes."""
    best = float(ari[without_teacher].max())
    return (ari - best) / (1 - best) if best < 1 else ari * np.nan


def _named(rows: pd.DataFrame, k: int) -> pd.DataFrame:
    """Name the methods instead of their columns."""
    names = {niche_column(prefix, k): name for prefix, name in NAMES.items()}
    named = rows.assign(method=rows["method"].map(names))
    named.insert(1, "k", k)
    return named


def _columns(prefixes: Sequence[str], k: int) -> list[str]:
    return [niche_column(prefix, k) for prefix in prefixes]


def niche_column(prefix: str, k: int) -> str:
    """Name the column of the niches of a method."""
    return f"{prefix}_k{k}{NICHE_SUFFIX}"
