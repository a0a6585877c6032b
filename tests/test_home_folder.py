"""Shells put the home folder in the place of ``~``; in Python, and behind ``--out=``, nobody does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stdistill as sd

FAST: dict[str, Any] = {"width": 16, "depth": 1, "n_heads": 2, "max_epochs": 1, "progress_bar": False}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that is not the working folder."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_what_is_written_and_read_is_there(home: Path, bundle: Path, make_cells: Callable) -> None:
    (home / "outs").symlink_to(bundle)
    image = next(bundle.glob("*he_image.ome.tif")).name
    slide = sd.pp.read_xenium("~/outs", he_image=f"~/outs/{image}")
    sd.pp.read_slide(f"~/outs/{image}")
    sd.io.to_geojson(slide, "~/types.geojson", key="cell_type")
    sd.io.to_xenium_explorer(slide, "~/types.csv", key="cell_type")
    sd.pp.split_strips(slide)
    sd.pl.split(slide["table"], save="~/split.png")
    cells = make_cells(200)
    cells.obsm["X_he"] = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float16)
    cells.obs["half"] = pd.Categorical(np.arange(200) % 2)
    student = sd.tl.distill(cells, teacher_key="half", checkpoint_dir="~/checkpoints", **FAST)
    student.save("~/student")
    sd.tl.predict(cells, "~/student")
    written = {name for name in os.listdir(home) if not name.startswith(".")}
    assert written == {"checkpoints", "outs", "split.png", "student", "types.csv", "types.geojson"}
    assert not os.listdir(".")
