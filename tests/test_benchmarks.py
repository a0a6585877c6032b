"""Short runs of the benchmarks, so that they keep working and their orders of magnitude hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(FOLDER / script), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_neighborhoods() -> None:
    lines = run("neighborhoods.py", "--n-cells", "20000", "--repeats", "1").splitlines()
    rows = {line[:28].strip(): line[28:].split() for line in lines[2:]}
    assert set(rows) >= {"squidpy", "scikit-learn", "stdistill", "stdistill, with search"}
    assert all(row[-1] == "True" for row in rows.values())  # the same edges
    assert float(rows["stdistill"][1]) > 3  # times squidpy's speed; 20 and more at a million cells


def test_read_he() -> None:
    lines = run("read_he.py", "--side", "4096", "--n-windows", "5").splitlines()
    ours, theirs = (line.split() for line in lines[2:4])
    assert float(ours[1]) < 2
    assert float(ours[3]) < float(theirs[3])


def test_open_slide() -> None:
    lines = run("open_slide.py", "--side", "16384").splitlines()
    rows = {line[:26].strip(): [float(word) for word in line[26:].split()] for line in lines[2:]}
    for kind in ("squares", "strips"):
        seconds, mb, n_chunks, *_ = rows[f"{kind}, stdistill"]
        assert seconds < 1
        assert mb < 100
        assert n_chunks == 256


def test_quality() -> None:
    lines = run("quality.py", "--n-cells", "2000").splitlines()
    before, damaged = ({line.split()[0]: float(line.split()[at]) for line in lines[1:-1]} for at in (1, 2))
    assert damaged["tissue_share"] < before["tissue_share"]
    assert damaged["unfocused_share"] > before["unfocused_share"] + 0.1
    assert damaged["pen_share"] > 0.05 > before["pen_share"]


def test_read_crops(shared_data: Path) -> None:
    image = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"
    lines = run("read_crops.py", "--quick", "--image", str(image)).splitlines()
    speed = {
        line[:34].strip(): float(line[34:].split()[1])
        for line in lines
        if "crops/s" not in line and line[34:41].strip().isdigit()
    }
    assert speed["windows, read alone"] > 20 * speed["ImageTilesDataset"]  # more than 100 on a whole slide
    assert speed["windows, crops cut"] > 10 * speed["ImageTilesDataset"]


def test_gpu(shared_data: Path) -> None:
    image = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"
    lines = run("gpu.py", "--quick", "--image", str(image)).splitlines()
    rates = {line[:52].strip(): float(line[52:62].replace(",", "")) for line in lines if line[62:64] == "/s"}
    assert set(rates) >= {"network alone, batches of 4", "read, cut, encoded, stored", "prediction, 512 at once"}
    assert rates["reading alone"] > rates["read, cut, encoded, stored"]


def test_simulate() -> None:
    assert "seconds" in run("simulate.py", "--n-cells", "500")


def test_her2st(shared_data: Path) -> None:
    lines = run("her2st.py", "--quick").splitlines()
    genes, cell_types = ({line[:25].strip(): float(line.split()[at]) for line in lines[2:]} for at in (-3, -2))
    for scores in (genes, cell_types):
        assert scores["texture"] > scores["colour statistics"]


def test_her2st_niches(shared_data: Path) -> None:
    means = run("her2st_niches.py", "--quick", "--data", str(shared_data)).split("Mean over sections")[1]
    for method in ("k-means", "logistic regression", "student", "Histology-NOLAN", "Histology-Leiden"):
        assert method in means


def test_nuclei(shared_data: Path) -> None:
    output = run("nuclei.py", "--quick", "--data", str(shared_data))
    lines = output.splitlines()
    purple = {line[:30].strip(): float(line.split()[-3].strip("/")) for line in lines if line.count("/") == 3}
    assert purple["unet"] > purple["tree"] > purple["Otsu, watershed"]
    assert output.count("F1 1.0000") == 2  # tiles against whole
    assert "training repeats to the same bits: True" in output


def test_measures() -> None:
    lines = run("measures.py", "--quick").splitlines()
    rows = {line[:20].strip(): line[20:].split() for line in lines[2:6]}
    assert float(rows["together"][0]) < 3
    assert float(rows["composition_jsd"][1]) > 5 * float(rows["composition_jsd"][0])


def test_niche_models() -> None:
    assert "peak beyond it" in run("niche_models.py", "--quick")


def test_teacher() -> None:
    arguments = ["--seeds", "0", "--n-cells", "800", "--k", "5", "--latent-epochs", "3", "--epochs", "1"]
    assert "k-means" in run("teacher.py", *arguments)


def test_evaluate() -> None:
    arguments = ["--n-cells", "1000", "--k", "3", "--expression-epochs", "1", "--model-epochs", "1"]
    assert "Histology-NOLAN" in run("evaluate.py", *arguments)


def test_exports() -> None:
    lines = run("exports.py", "--quick").splitlines()
    cpu = {line[:28].strip(): float(line[28:].split()[1]) for line in lines[2:]}
    assert cpu["to_geojson"] < cpu["GeoDataFrame.to_file"]  # a fifth or less of it at 100,000
    assert "to_geojson, regions" in cpu


def test_transfer(tmp_path: Path) -> None:
    assert "at least 0.8" in run("transfer.py", "--quick", "--out", str(tmp_path))
    table = pd.read_csv(tmp_path / "transfer.csv").set_index("slide")
    assert table.loc[["nuclei found", "other stain"], "matched"].min() > 0.9  # 0.6 of any places
    assert table.loc["hue +.05", "AUROC"] > 0.95
    assert table.loc["other stain, normalised", "cells"] == table.loc["other stain", "cells"]
