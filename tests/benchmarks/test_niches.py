"""Short runs of what measures networks and niches: that it works, and that its orders of magnitude hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

Run = Callable[..., str]
FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_gpu(run: Run, shared_data: Path) -> None:
    image = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"
    lines = run("gpu.py", "--quick", "--image", str(image)).splitlines()
    rates = {line[:52].strip(): float(line[52:62].replace(",", "")) for line in lines if line[62:64] == "/s"}
    assert set(rates) >= {"network alone, batches of 4", "read, cut, encoded, stored", "prediction"}
    assert set(rates) >= {"student, 32-true, batches of 128, 0 workers"}
    assert set(rates) >= {"student, 32-true, batches of 32, 0 workers", "teacher, 32-true, batches of 256, 0 workers"}
    assert rates["reading alone"] > rates["read, cut, encoded, stored"]


def test_gpu_needs_no_package_of_tables() -> None:
    """It is to run wherever a GPU is."""
    others = ["anndata", "spatialdata", "spatialdata_io", "scanpy", "squidpy", "scvi", "leidenalg", "geopandas", "zarr"]
    code = f"import sys; sys.modules.update(dict.fromkeys({others}))\nimport gpu"  # `None` there cannot be imported
    subprocess.run([sys.executable, "-c", code], cwd=FOLDER, check=True)


def test_her2st(run: Run, shared_data: Path) -> None:
    lines = run("her2st.py", "--quick").splitlines()
    genes, cell_types = ({line[:25].strip(): float(line.split()[at]) for line in lines[2:]} for at in (-3, -2))
    for scores in (genes, cell_types):
        assert scores["texture"] > scores["colour statistics"]


def test_her2st_niches(run: Run, shared_data: Path) -> None:
    means = run("her2st_niches.py", "--quick", "--data", str(shared_data)).split("Mean over sections")[1]
    for method in (
        "k-means",
        "logistic regression",
        "student",
        "student, by slide",
        "Histology-NOLAN",
        "Histology-Leiden",
    ):
        assert method in means


def test_measures(run_apart: Run) -> None:
    lines = run_apart("measures.py", "--quick").splitlines()
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
def test_teacher_peers(run: Run, tmp_path: Path) -> None:
    printed = run("teacher_peers.py", "--quick", "--out", str(tmp_path))
    rows = pd.read_csv(tmp_path / "peers.csv")
    assert rows["method"].tolist() == ["teacher", "k-means", "scikit-learn k-means"]
    assert rows[["n_true", "ARI", "NMI", "PAS", "CHAOS", "seconds", "version"]].notna().all(axis=None)
    summary = json.loads((tmp_path / "peers.json").read_text())
    assert summary["k-means"]["minus_k_means"] == {"ARI": 0, "NMI": 0}
    assert summary["teacher"]["mean"]["ARI"] == pytest.approx(rows["ARI"][0])
    assert all(name in printed for name in summary)


def test_peers_name_what_they_need() -> None:
    """Each script of another package says of which version, and for which Python, so that it is made anew alike."""
    scripts = list((FOLDER / "peers").glob("with_*.py"))
    assert len(scripts) == 4
    for script in scripts:
        lines = script.read_text().splitlines()
        block = lines[: lines.index("# ///") + 1]
        assert block[0] == "# /// script"
        needed = tomllib.loads("\n".join(line.removeprefix("# ") for line in block[1:-1]))
        assert needed["requires-python"].startswith(">=")
        assert all(re.fullmatch(r"[a-z]+==[\d.]+", package) for package in needed["dependencies"])


@pytest.mark.usefixtures("narrow")
def test_evaluate(run: Run) -> None:
    arguments = ["--n-cells", "500", "--k", "3", "--expression-epochs", "1", "--model-epochs", "1"]
    printed = run("evaluate.py", *arguments)
    assert "Histology-NOLAN" in printed
    assert "Plain baselines take" in printed


def test_transfer(run: Run, tmp_path: Path) -> None:
    assert "at least 0.8" in run("transfer.py", "--quick", "--out", str(tmp_path))
    table = pd.read_csv(tmp_path / "transfer.csv").set_index("slide")
    assert table.loc[["nuclei found", "other stain"], "matched"].min() > 0.9  # 0.6 of any places
    assert table.loc["hue +.05", "AUROC"] > 0.95
    assert table.loc["other stain, normalised", "cells"] == table.loc["other stain", "cells"]


def test_teacher_arrangement(run: Run) -> None:
    lines = run("teacher_arrangement.py", "--quick").splitlines()
    ari = {line[2:26].strip(): float(line.split()[-2]) for line in lines[-3:]}
    assert ari["the two pairs"] == pytest.approx(0.5, abs=0.05)
    assert 0.1 < ari["k-means"] < 0.5


def test_leave_one_slide_out(run: Run, tmp_path: Path) -> None:
    run("leave_one_slide_out.py", "--quick", "--out", str(tmp_path))
    table = (
        pd.read_csv(tmp_path / "leave_one_slide_out.csv")
        .set_index(["features", "by", "slides", "left out"])
        .sort_index()
    )
    assert len(table) == (2 + 2 + 1) * 2 * 3
    assert table[["student", "halves", "regression"]].min().min() > 0.05  # of 8 niches
    assert table.groupby("by")[["student", "halves", "regression"]].mean().min().min() > 0.1
    for training in ("one", "others"):  # looks are for the student alone
        for by in ("training", "slide"):
            assert table.loc["plain", by, training]["regression"].equals(table.loc["looks", by, training]["regression"])
    assert not table.loc["plain"]["student"].equals(table.loc["looks"]["student"])
    for method in ("student", "regression"):
        assert not table.loc["plain", "training"][method].equals(table.loc["plain", "slide"][method])


def test_niche_profile(run: Run) -> None:
    lines = run("niche_profile.py", "--quick").splitlines()
    seconds = {line[:25].strip(): float(line[25:33]) for line in lines[1:5]}
    assert seconds["together"] < 30
    assert lines[-1].startswith("100% of the first six markers")
