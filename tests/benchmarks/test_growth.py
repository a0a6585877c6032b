"""A short run of what measures how time and memory grow: every stage, the table and the picture."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from PIL import Image

Run = Callable[..., str]
FOLDER = Path(__file__).parents[2] / "benchmarks"
SIZES = (300,)


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("growth")


def made_up(stage: str, n_cells: int, seconds: float, step_seconds: float = 0.0, n_steps: int = 0) -> dict[str, Any]:
    time = {"seconds": seconds, "cpu_seconds": 2 * seconds}
    steps = {"n_steps": n_steps, "step_seconds": step_seconds, "step_cpu_seconds": 2 * step_seconds}
    return {"stage": stage, "n_cells": n_cells, **time, **steps, "peak_mb": n_cells / 1000, "process_mb": 1024.0}


def test_every_stage(
    growth: ModuleType, monkeypatch: pytest.MonkeyPatch, run: Run, run_apart: Run, shared_data: Path, tmp_path: Path
) -> None:
    """In this process but for one stage; a second call finds that all is done."""
    folder, out, picture = tmp_path / "slides", tmp_path / "growth.json", tmp_path / "growth.png"
    image = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"
    options = ["--folder", folder, "--out", out, "--image", image, "--repeats", 1, "--sizes", *SIZES]
    monkeypatch.setattr(sys, "argv", ["growth.py", "run", *map(str, options)])
    for name, value in {"N_STEPS": 2, "run_apart": growth.run_here}.items():
        monkeypatch.setattr(growth, name, value)
    growth.main()
    written = out.read_text()
    growth.main()
    assert out.read_text() == written

    found = json.loads(written)
    assert str(tmp_path) not in written
    assert found["machine"]["torch"]
    assert {(run["stage"], run["n_cells"]) for run in found["runs"]} == {(s, n) for s in growth.STAGES for n in SIZES}
    assert len(found["runs"]) == len(growth.STAGES) * len(SIZES)
    for one in found["runs"]:
        assert one["seconds"] > 0
        assert one["process_mb"] >= one["peak_mb"] >= 0
        is_trained = one["stage"] in ("expression", "teacher", "student")
        assert (one["n_steps"] > 0) == (one["step_seconds"] > 0) == is_trained
    assert {one["n_steps"] for one in found["runs"] if one["stage"] in ("teacher", "student")} == {2}

    printed = run("growth.py", "plot", str(out), "--out", str(picture))
    assert all(f"| {name}" in printed for name in growth.STAGES.values())
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 500
    apart = run_apart("growth.py", "here", "measures", str(folder), str(SIZES[0]), str(image))
    assert json.loads(apart.splitlines()[-1])["seconds"] > 0


def test_growth_is_per_cell_or_per_step(growth: ModuleType) -> None:
    small, middle, large = growth.SIZES
    runs = [made_up("graph", small, 1.0), *(made_up("graph", middle, s) for s in (3.0, 5.0, 4.0))]
    runs.append(made_up("graph", large, 1.2 * 4 * large / middle))
    runs += [made_up("teacher", middle, 30.0, 0.2, 50), made_up("teacher", large, 11 + 20 * large / middle, 0.22, 50)]
    runs += [made_up("plots", middle, 7.0), made_up("report", small, 7.0), made_up("report", large, 7.0)]
    lines = growth.to_table(growth.by_part(runs)).splitlines()
    rows = {cells[1]: cells[2:] for line in lines if (cells := [cell.strip() for cell in line.split("|")])}
    assert rows["neighbourhood graph"][:5] == ["1", "4 (3 to 5)", "65", "1.20", "1.20"]
    assert rows["neighbourhood graph"][5:9] == ["10", "100", "1,354", "1.0"]
    assert rows["teacher, 50 steps"][:5] == ["–", "10", "11", "1.10", "1.10"]
    assert rows["teacher, all cells"][3:5] == ["1.00", "1.00"]
    assert rows["two maps"][2:5] == ["–", "–", "–"]  # was not run
    assert rows["report"][2:4] == ["7", "–"]

    ratios = growth.growth(pd.Series({small: 2.0, middle: 10.0}), middle, per_cell=True)
    assert ratios.tolist() == [2.0, 1.0]
