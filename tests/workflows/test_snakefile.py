"""The workflow, by the real engine: one job a slide, and one that breaks stops no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd

WORKFLOWS = Path(__file__).parents[2] / "workflows"
FAST = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "max_epochs": 1, "batch_size": 128}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with a student, and a CSV of two tables, of which the second is cut off."""
    rng = np.random.default_rng(0)
    cells = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 300, (300, 2))})
    cells.obsm["X_he"] = np.c_[cells.obsm["spatial"] / 100, rng.normal(size=(300, 6))].astype("float32")
    cells.write_h5ad(tmp_path / "good.h5ad")
    (tmp_path / "cut_off.h5ad").write_bytes((tmp_path / "good.h5ad").read_bytes()[:3000])
    cells.obs["region"] = np.where(cells.obsm["spatial"][:, 0] < 150, "left", "right")
    sd.tl.distill(cells, teacher_key="region", progress_bar=False, accelerator="cpu", **FAST).save(tmp_path / "student")
    (tmp_path / "slides.csv").write_text("slide\ngood.h5ad\ncut_off.h5ad\n")
    return tmp_path


def test_one_job_a_slide(study: Path) -> None:
    bin_folder = Path(sys.executable).parent
    done = subprocess.run(
        [
            *(str(bin_folder / "snakemake"), "--snakefile", str(WORKFLOWS / "Snakefile"), "--cores", "2"),
            *("--workflow-profile", str(WORKFLOWS / "profiles" / "local")),
        ],
        cwd=study,
        env=os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(study)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    cohort = study / "cohort"
    assert ad.read_h5ad(cohort / "slides" / "good" / "niches.h5ad").obs["student_niche"].notna().all()
    status = pd.read_csv(cohort / "status.csv", index_col="slide_id")["status"]
    assert status.to_dict() == {"good": "done", "cut_off": "failed"}
    assert "cut_off" in (cohort / "workflow" / "2.log").read_text()
    # The next run begins with what has no `.done`.
    assert [path.name for path in (cohort / "workflow").glob("*.done")] == ["1.done"]
