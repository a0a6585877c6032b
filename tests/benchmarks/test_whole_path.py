"""A short run of what measures the command from the bundle to the report, and the large bundles that it makes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import stdistill as sd

Run = Callable[..., str]
FOLDER = Path(__file__).parents[2] / "benchmarks"
STAGES = ["start", "table", "split", "X_he", "spatial_neighbors", "X_scVI", "teacher", "student"]
STAGES += ["niches.png", "training.png", "cells.h5ad", "agreement.csv", "report"]


@pytest.mark.skipif(sys.platform != "linux", reason="memory and CPU time are those that Linux tells")
def test_every_stage(run: Run, tmp_path: Path) -> None:
    """From a bundle that is larger than the piece it is made of; what is finished is kept by a second call."""
    out = tmp_path / "whole.json"
    options = ["--folder", str(tmp_path), "--out", str(out), "--n-cells", "700", "--n-simulated", "2500"]
    printed = run("whole_path.py", *options, "--epochs", "1")
    stages = json.loads(out.read_text())["runs"]["700"]["stages"]
    assert list(stages) == STAGES
    assert all(cost["seconds"] > 0 for cost in stages.values())
    assert sum(cost["cpu_seconds"] for cost in stages.values()) > 1
    assert 0.1 < max(cost["peak_gb"] for cost in stages.values()) < 6
    assert all(f"| {stage} |" in printed for stage in (*STAGES, "all"))
    assert (tmp_path / "run_700" / "report" / "index.html").is_file()

    slide = sd.pp.read_xenium(tmp_path / "outs_700")
    cells, piece = slide["table"], sd.pp.read_xenium(tmp_path / "simulated", he_image=False)["table"]
    assert cells.n_obs == 700
    assert set(map(tuple, cells.X.toarray())) < set(map(tuple, piece.X.toarray()))
    assert cells.obs["cell_type"].notna().mean() > 0.9
    assert cells.uns["stdistill"]["read_xenium"]["mpp"] == pytest.approx(0.274)

    run("whole_path.py", *options, "--epochs", "1")
    again = json.loads(out.read_text())["runs"]["700"]["stages"]
    assert again["teacher"] == stages["teacher"]
    assert again["report"] != stages["report"]


def test_mirrored_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three cells of a square of 10 px, one of them outside of it: the nearest of those that are mirrored."""
    monkeypatch.syspath_prepend(FOLDER)
    bundle = importlib.import_module("stages.bundle")
    layout = bundle.mirror(np.array([[1.0, 2.0], [12.0, 3.0], [4.0, 9.0]]), 10, 5)
    found = sorted(zip(map(tuple, layout.centers_px.tolist()), layout.source.tolist(), strict=True))
    assert found == [((1, 2), 0), ((4, 9), 2), ((4, 11), 2), ((16, 9), 2), ((16, 11), 2)]
    assert layout.names.tolist() == [f"aaaaaaa{letter}-1" for letter in "abcde"]


def test_growth_is_per_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    whole_path = importlib.import_module("whole_path")
    runs = {
        n: {"stages": {stage: {"seconds": s, "cpu_seconds": 2 * s, "peak_gb": gb} for stage, s, gb in costs}}
        for n, costs in {"1000": [("table", 1.0, 1.0)], "2000": [("table", 3.0, 1.5), ("report", 1.0, 4.0)]}.items()
    }
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in whole_path.to_table(runs).splitlines()]
    table = pd.DataFrame(lines[2:], columns=lines[0]).set_index("stage")
    assert table.loc["table"].tolist() == ["1.0", "2.0", "1.00", "3.0", "6.0", "1.50", "1.50", "1.50"]
    assert table.loc["all"].tolist() == ["1.0", "2.0", "1.00", "4.0", "8.0", "4.00", "2.00", "2.00"]
    assert table.loc["report"].tolist()[-3:] == ["4.00", "nan", "nan"]
