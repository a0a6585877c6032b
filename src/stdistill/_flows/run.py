"""A slide's niches: from the bundle to the table, the models and figures."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
from anndata import AnnData

from stdistill import pl, tl
from stdistill._flows.figures import draw_methods
from stdistill._runs.folder import CELLS_FILE, Run
from stdistill._runs.prepare import Machine, Source, Training, fit_model, prepare, read_slide, split
from stdistill._support.files import replacing
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._training.arguments import Standardization
from stdistill.models import NicheModel


def fit_niches(
    run: Run,
    source: Source,
    *,
    k: int,
    encoder: str,
    n_augmented: int,
    standardize: Standardization,
    training: Training,
    machine: Machine,
) -> pd.DataFrame | None:
    """Fit teacher and student to a slide, write all to the folder of the run, and return their agreement.

    `None` where the agreement cannot be measured, which comes last: a map is of use without.
    """
    slide = read_slide(run, source)
    split(run, slide)
    cells = prepare(run, slide, training, machine=machine, encoder=encoder, n_augmented=n_augmented)
    teacher, student = schema.TEACHER, schema.STUDENT
    fit = partial(fit_model, run, cells, training=training, machine=machine, k=k)
    fit(teacher, tl.nolan, max_epochs=training.teacher_epochs)
    fit(student, tl.distill, teacher_key=teacher, standardize=standardize, max_epochs=training.student_epochs)
    if (folder := run.folder) is not None:
        titles = {"teacher_niche": "Teacher", "student_niche": "Student"}
        run.step("niches.png", lambda: draw_methods(slide, titles, folder / "niches"))
        run.step("training.png", lambda: _draw_training(folder))
        run.step(CELLS_FILE, lambda: _write(cells, folder / CELLS_FILE))
    try:
        return run.step("agreement.csv", lambda: _measure(cells, folder))
    except ValueError as error:
        warn(f"How well the student follows its teacher cannot be measured. {error}")
        return None


def _measure(cells: AnnData, folder: Path | None) -> pd.DataFrame:
    agreement = tl.agreement(cells, keys="student_niche")
    if folder is not None:
        with replacing(folder / "agreement.csv") as new:
            agreement.to_csv(new, index=False)
    return agreement


def _draw_training(folder: Path) -> None:
    with replacing(folder / "training.png") as new:
        pl.training(NicheModel.load(folder / schema.STUDENT), save=new)


def _write(cells: AnnData, path: Path) -> None:
    with replacing(path) as new:
        cells.write_h5ad(new)
