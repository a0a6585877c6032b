"""The paper's protocol: a teacher, its student and two baselines for each number of niches, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from anndata import AnnData

import stdistill as sd
from stdistill._flows.figures import draw_methods
from stdistill._flows.prepare import Training, fit_student, fit_teacher, prepare, split
from stdistill._runs.folder import Run, replacing
from stdistill._runs.tables import format_tables
from stdistill._table import schema
from stdistill._table.annotations import PolygonsUnit, annotated_folds
from stdistill._table.checks import get_table
from stdistill._table.labels import NICHE_SUFFIX, check_several, held_out, read_labels
from stdistill.tl._composition import CELL_TYPE_HINT

if TYPE_CHECKING:
    from spatialdata import SpatialData

TEACHER, STUDENT, HE_NOLAN, HE_LEIDEN = schema.TEACHER, schema.STUDENT, "he_nolan", schema.HE_LEIDEN
NAMES = {TEACHER: "Teacher", STUDENT: "Student", HE_NOLAN: "Histology-NOLAN", HE_LEIDEN: "Histology-Leiden"}
"""Names of the methods, by the prefixes of what they write; in the order of the paper's figures."""
COMPARED = [HE_NOLAN, HE_LEIDEN, STUDENT]
"""With the teacher, in the order of the paper's tables."""


class Asked(NamedTuple):
    """What is measured."""

    ks: Sequence[int]
    cell_type_key: str | None = None
    label_key: str | None = None
    polygons: str | Path | None = None
    polygons_unit: PolygonsUnit = "px"

    @property
    def has_annotations(self) -> bool:
        """Whether there is something for the probe."""
        return self.label_key is not None or self.polygons is not None

    @property
    def annotations(self) -> dict[str, Any]:
        """The arguments of the probe that say where they are."""
        return {"label_key": self.label_key, "polygons": self.polygons, "polygons_unit": self.polygons_unit}


@dataclass(frozen=True)
class Evaluation:
    """What :func:`stdistill.tl.evaluate` returns; as text it is the tables in the shape of the paper's."""

    agreement: pd.DataFrame
    """ARI and NMI with the teacher; one row per method and number of niches, as in all of them."""
    steps: pd.DataFrame
    """What was done: ``step``, ``seconds``, ``ended``."""
    composition_jsd: pd.DataFrame | None = None
    """Divergence of cell-type compositions from the teacher's; `None` without cell types."""
    pathology_probe: pd.DataFrame | None = None
    """Macro-F1 of annotations predicted from niches; `None` without annotations."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The measures there are, by name."""
        names = ("agreement", "composition_jsd", "pathology_probe")
        return {name: table for name in names if (table := getattr(self, name)) is not None}

    def __str__(self) -> str:
        return format_tables(self.agreement, self.composition_jsd, self.pathology_probe)


def run_protocol(
    run: Run,
    data: AnnData | SpatialData,
    asked: Asked,
    training: Training,
    *,
    encoder: str = "auto",
    table_key: str = schema.TABLE,
) -> Evaluation:
    """Run the protocol on a slide; tables and figures go to the folder of the run."""
    split(run, data, table_key)
    _check_asked(data, asked, table_key)
    cells = prepare(run, data, training, encoder=encoder, table_key=table_key)
    for k in asked.ks:
        _fit_methods(run, cells, k, training)
    if run.folder is not None:
        for k in asked.ks:
            titles = {_key(prefix, k): name for prefix, name in NAMES.items()}
            draw_methods(data, titles, run.folder / f"niches_k{k}", table_key=table_key)
    tables = {}
    for name, measure in _measures(data, asked, training.seed, table_key).items():
        tables[name] = run.step(name, partial(_for_each_k, asked.ks, measure))
        if run.folder is not None:
            with replacing(run.folder / f"{name}.csv") as new:
                tables[name].to_csv(new, index=False)
    return Evaluation(steps=run.steps, **tables)


def _check_asked(data: AnnData | SpatialData, asked: Asked, table_key: str) -> None:
    """Raise for cell types and annotations that could not be used, before hours of training."""
    cells = get_table(data, table_key)
    group, measured = held_out(cells, schema.SPLIT)
    if asked.cell_type_key is not None:
        cell_types = read_labels(cells, asked.cell_type_key, "cell_type_key", CELL_TYPE_HINT)
        typed = measured & cell_types.known
        if not typed.any():
            msg = f"None of the {measured.sum()} cells ({group}) has a cell type in .obs[{asked.cell_type_key!r}]."
            raise ValueError(msg)
        check_several(cell_types, typed, f".obs[{asked.cell_type_key!r}] (cell_type_key)")
    if asked.has_annotations:
        annotated_folds(data, table_key=table_key, **asked.annotations)


def _fit_methods(run: Run, cells: AnnData, k: int, training: Training) -> None:
    """Fit all methods, under keys that tell the numbers of niches apart; the same tissue gets the same colour."""
    teacher, student, he_nolan, he_leiden = (f"{prefix}_k{k}" for prefix in NAMES)
    fit_teacher(run, cells, teacher, k=k, use_rep=schema.EXPRESSION_LATENT, training=training)
    fit_student(run, cells, student, k=k, teacher_key=teacher, training=training)
    fit_teacher(run, cells, he_nolan, k=k, use_rep=schema.HE_FEATURES, training=training)
    run.write_step(cells, he_leiden, lambda _: sd.tl.leiden(cells, k=k, key_added=he_leiden, seed=training.seed))
    for prefix in (HE_NOLAN, HE_LEIDEN):
        sd.tl.match_niches(cells, reference_key=_key(TEACHER, k), key=_key(prefix, k))


def _measures(
    data: AnnData | SpatialData, asked: Asked, seed: int, table_key: str
) -> dict[str, Callable[[int], pd.DataFrame]]:
    """Name what was asked for, each for one k, on the test cells."""
    cells = get_table(data, table_key)
    measures: dict[str, Callable[[int], pd.DataFrame]] = {"agreement": lambda k: _agreement(cells, k)}
    if asked.cell_type_key is not None:
        cell_type_key = asked.cell_type_key
        measures["composition_jsd"] = lambda k: (
            sd.tl.composition_jsd(
                cells,
                cell_type_key=cell_type_key,
                reference_key=_key(TEACHER, k),
                keys=_keys_of(COMPARED, k),
                seed=seed,
            ).summary
        )
    if asked.has_annotations:
        measures["pathology_probe"] = lambda k: sd.tl.pathology_probe(
            data, keys=_keys_of([*COMPARED, TEACHER], k), table_key=table_key, **asked.annotations
        )
    return measures


def _for_each_k(ks: Sequence[int], measure: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([_named(measure(k), k) for k in ks], ignore_index=True)


def _agreement(cells: AnnData, k: int) -> pd.DataFrame:
    group, measured = held_out(cells, schema.SPLIT)
    keys = _keys_of(COMPARED, k)
    rows = sd.tl.agreement(cells, reference_key=_key(TEACHER, k), keys=keys)
    of_group = rows[rows["split"] == group].drop(columns="split")
    return of_group.assign(n_niches=[cells.obs.loc[measured, key].nunique() for key in keys])


def _named(rows: pd.DataFrame, k: int) -> pd.DataFrame:
    """Name the methods instead of their columns."""
    names = {_key(prefix, k): name for prefix, name in NAMES.items()}
    named = rows.assign(method=rows["method"].map(names))
    named.insert(1, "k", k)
    return named


def _keys_of(prefixes: Sequence[str], k: int) -> list[str]:
    return [_key(prefix, k) for prefix in prefixes]


def _key(prefix: str, k: int) -> str:
    return f"{prefix}_k{k}{NICHE_SUFFIX}"
