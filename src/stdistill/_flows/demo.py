"""The example: the whole way from a simulated slide to niche maps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from anndata import AnnData

from stdistill import datasets, pl, pp, tl

N_NICHES = 8
"""Niches of the simulated tissue, and of the models."""
EXPRESSION_EPOCHS = 20
"""Enough for a small slide; scVI's own rule would take longer than all the rest."""
STUDENT_EPOCHS = 7
"""Fewer than the default, so that the example ends within minutes on two cores."""


def run_demo(out: Path, *, n_cells: int, seed: int) -> pd.DataFrame:
    """Simulate a slide, fit teacher and student, and compare both on the strip that was held out.

    Parameters
    ----------
    out
        New folder for the bundle, the table, the student and the figures.
    n_cells, seed
        Size of the slide, and which tissue is simulated.

    Returns
    -------
    Agreement on the test cells, one row for each pair that is compared.
    """
    import matplotlib.pyplot as plt

    bundle = datasets.simulate_xenium(out / "outs", n_cells=n_cells, n_niches=N_NICHES, seed=seed)
    slide = pp.read_xenium(bundle)
    pp.split_strips(slide)
    pp.neighborhoods(slide)
    pp.embed_he(slide, encoder="texture", store=out / "features")
    pp.embed_expression(slide, max_epochs=EXPRESSION_EPOCHS, seed=seed)

    cells = slide["table"]
    student = tl.distill(cells, k=N_NICHES, max_epochs=STUDENT_EPOCHS, seed=seed)
    truth = pd.read_parquet(out / "outs_truth.parquet").set_index("cell_id")["niche"]
    cells.obs["true_niche"] = pd.Categorical(cells.obs["cell_id"].map(truth).astype(str))
    tl.match_niches(cells, reference_key="true_niche", key="teacher_niche")
    tl.match_niches(cells, reference_key="teacher_niche", key="student_niche")

    student.save(out / "student")
    cells.write_h5ad(out / "cells.h5ad")
    with plt.rc_context({"backend": "agg"}):
        pl.niches(cells, keys=["true_niche", "teacher_niche", "student_niche"], save=out / "niches.png")
        pl.crops(slide, save=out / "crops.png")
        pl.training(student, save=out / "training.png")
    return _compare(cells)


def _compare(cells: AnnData) -> pd.DataFrame:
    by_teacher = tl.agreement(cells, keys=["student_niche"])
    by_truth = tl.agreement(cells, reference_key="true_niche", keys=["teacher_niche", "student_niche"])
    rows = pd.concat([by_teacher.assign(reference="teacher_niche"), by_truth.assign(reference="true_niche")])
    test = rows[rows["split"] == "test"]
    return test[["method", "reference", "ari", "nmi", "n_cells"]].reset_index(drop=True)
