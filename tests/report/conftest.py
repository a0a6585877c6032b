"""Runs as they stand on disk, without a training: niches are the truth of a simulated slide."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._table.he.stored import write_without_images
from stdistill._table.records import write_record

ODD = "</script><b>odd & 'named'</b>"
"""A niche that would break a page that takes names for markup."""


def write_run(folder: Path, bundle: Path) -> ad.AnnData:
    """Write what ``stdistill predict`` leaves of an H&E, and return its table."""
    slide = sd.pp.read_xenium(bundle)
    sd.pp.find_tissue(slide)
    cells = slide["table"]
    truth = pd.read_parquet(bundle.parent / f"{bundle.name}_truth.parquet").set_index("cell_id")["niche"]
    names = cells.obs["cell_id"].map(truth).astype(str)
    first = sorted(set(names))[0]
    cells.obs["student_niche"] = pd.Categorical(names.replace(first, ODD))
    cells.obs["student_confidence"] = np.linspace(0, 1, cells.n_obs, dtype=np.float32)
    cells.obs["student_ood"] = np.linspace(0.5, 10, cells.n_obs, dtype=np.float32)
    cells.obs.loc[cells.obs_names[:20], ["student_niche", "student_confidence"]] = np.nan
    reasons = ["<i>86% of the cells</i> can be trusted"]
    write_record(cells, "verdict", verdict="partly", reasons=reasons, niches_unseen=[])
    niches = ad.AnnData(obs=cells.obs, obsm={"spatial": cells.obsm["spatial"]}, uns=dict(cells.uns))
    folder.mkdir(parents=True)
    niches.write_h5ad(folder / "niches.h5ad")
    slide.tables["table"] = niches
    write_without_images(slide, folder / "niches.zarr")
    measures = pd.DataFrame({"measure": ["trusted_share"], "found": [0.86], "verdict": ["partly"]})
    measures.to_csv(folder / "verdict.csv", index=False)
    manifest: dict[str, Any] = {
        "command": "predict",
        "parameters": {},
        "asked": {"student": "a student", "data": str(bundle / "simulated_he_image.ome.tif")},
        "input": {},
        "versions": {"stdistill": "0.1", "python": "3.12"},
        "steps": [],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return niches


@pytest.fixture(scope="session")
def finished(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on an H&E; shared, so that none may write to it."""
    folder = tmp_path_factory.mktemp("runs") / "prediction"
    write_run(folder, bundle)
    return folder


@pytest.fixture
def own_run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "prediction"))


@pytest.fixture
def make_cohort(finished: Path, tmp_path: Path) -> Callable[[], Path]:
    """Writes a cohort of three slides: two are done, one failed."""

    def make() -> Path:
        cohort = tmp_path / "cohort"
        (cohort / "status").mkdir(parents=True)
        (cohort / "cohort.json").write_text("{}")
        slides = pd.DataFrame(
            {
                "slide_id": ["a", "b", "c"],
                "slide": ["/slides/a.svs", "/slides/b.svs", "/slides/c.svs"],
                "group": ["case", "control", "<case>"],
                "age": [61, 48, 70],
            }
        )
        slides.to_csv(cohort / "slides.csv", index=False)
        seconds = {"student": 1.0}
        done = {"status": "done", "n_cells": 800, "n_niches": 780, "verdict": "partly", "seconds": seconds}
        failed = {"status": "failed", "reason": "c.svs is not whole", "seconds": seconds}
        for slide_id, facts in {"a": done, "b": {**done, "verdict": "usable"}, "c": failed}.items():
            (cohort / "status" / f"{slide_id}.json").write_text(json.dumps(facts))
        for slide_id in ("a", "b"):
            shutil.copytree(finished, cohort / "slides" / slide_id)
        return cohort

    return make
