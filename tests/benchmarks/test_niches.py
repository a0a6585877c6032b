"""Short runs of what measures networks and niches: that it works, and that its orders of magnitude hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

Run = Callable[..., str]


def test_gpu(run: Run, shared_data: Path) -> None:
    image = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"
    lines = run("gpu.py", "--quick", "--image", str(image)).splitlines()
    rates = {line[:52].strip(): float(line[52:62].replace(",", "")) for line in lines if line[62:64] == "/s"}
    assert set(rates) >= {"network alone, batches of 4", "read, cut, encoded, stored", "prediction, 512 at once"}
    assert rates["reading alone"] > rates["read, cut, encoded, stored"]


def test_her2st(run: Run, shared_data: Path) -> None:
    lines = run("her2st.py", "--quick").splitlines()
    genes, cell_types = ({line[:25].strip(): float(line.split()[at]) for line in lines[2:]} for at in (-3, -2))
    for scores in (genes, cell_types):
        assert scores["texture"] > scores["colour statistics"]


def test_her2st_niches(run: Run, shared_data: Path) -> None:
    means = run("her2st_niches.py", "--quick", "--data", str(shared_data)).split("Mean over sections")[1]
    for method in ("k-means", "logistic regression", "student", "Histology-NOLAN", "Histology-Leiden"):
        assert method in means


def test_measures(run: Run) -> None:
    lines = run("measures.py", "--quick").splitlines()
    rows = {line[:20].strip(): line[20:].split() for line in lines[2:6]}
    assert float(rows["together"][0]) < 3
    assert float(rows["composition_jsd"][1]) > 5 * float(rows["composition_jsd"][0])


def test_niche_models(run: Run) -> None:
    assert "peak beyond it" in run("niche_models.py", "--quick")


@pytest.mark.usefixtures("narrow")
def test_teacher(run: Run) -> None:
    arguments = ["--seeds", "0", "--n-cells", "500", "--k", "5", "--latent-epochs", "1", "--epochs", "1"]
    assert "k-means" in run("teacher.py", *arguments)


@pytest.mark.usefixtures("narrow")
def test_evaluate(run: Run) -> None:
    arguments = ["--n-cells", "500", "--k", "3", "--expression-epochs", "1", "--model-epochs", "1"]
    assert "Histology-NOLAN" in run("evaluate.py", *arguments)


def test_transfer(run: Run, tmp_path: Path) -> None:
    assert "at least 0.8" in run("transfer.py", "--quick", "--out", str(tmp_path))
    table = pd.read_csv(tmp_path / "transfer.csv").set_index("slide")
    assert table.loc[["nuclei found", "other stain"], "matched"].min() > 0.9  # 0.6 of any places
    assert table.loc["hue +.05", "AUROC"] > 0.95
    assert table.loc["other stain, normalised", "cells"] == table.loc["other stain", "cells"]


def test_niche_profile(run: Run) -> None:
    lines = run("niche_profile.py", "--quick").splitlines()
    seconds = {line[:25].strip(): float(line[25:33]) for line in lines[1:5]}
    assert seconds["together"] < 30
    assert lines[-1].startswith("100% of the first six markers")
