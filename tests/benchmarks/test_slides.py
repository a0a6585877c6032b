"""Short runs of what measures slides: that it works, and that its orders of magnitude hold."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

Run = Callable[..., str]
FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_neighborhoods(run_apart: Run) -> None:
    lines = run_apart("neighborhoods.py", "--n-cells", "20000", "--repeats", "1").splitlines()
    rows = {line[:28].strip(): line[28:].split() for line in lines[2:]}
    assert set(rows) >= {"squidpy", "scikit-learn", "stdistill", "stdistill, with search"}
    assert all(row[-1] == "True" for row in rows.values())  # the same edges
    assert float(rows["stdistill"][1]) > 3  # times squidpy's speed; 20 and more at a million cells


def test_read_he(run_apart: Run) -> None:
    lines = run_apart("read_he.py", "--side", "4096", "--n-windows", "5").splitlines()
    ours, theirs = (line.split() for line in lines[2:4])
    assert float(ours[1]) < 2
    assert float(ours[3]) < float(theirs[3])


def test_open_slide(run_apart: Run) -> None:
    lines = run_apart("open_slide.py", "--side", "16384").splitlines()
    rows = {line[:26].strip(): [float(word) for word in line[26:].split()] for line in lines[2:]}
    for kind in ("squares", "strips"):
        seconds, mb, n_chunks, *_ = rows[f"{kind}, stdistill"]
        assert seconds < 1
        assert mb < 100
        assert n_chunks == 256


def test_quality(run: Run) -> None:
    lines = run("quality.py", "--n-cells", "2000").splitlines()
    before, damaged = ({line.split()[0]: float(line.split()[at]) for line in lines[1:-1]} for at in (1, 2))
    assert damaged["tissue_share"] < before["tissue_share"]
    assert damaged["unfocused_share"] > before["unfocused_share"] + 0.1
    assert damaged["pen_share"] > 0.05 > before["pen_share"]


def test_read_crops(run_apart: Run, shared_data: Path) -> None:
    image = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"
    lines = run_apart("read_crops.py", "--quick", "--image", str(image)).splitlines()
    speed = {
        line[:34].strip(): float(line[34:].split()[1])
        for line in lines
        if "crops/s" not in line and line[34:41].strip().isdigit()
    }
    assert speed["windows, read alone"] > 20 * speed["ImageTilesDataset"]  # more than 100 on a whole slide
    assert speed["windows, crops cut"] > 10 * speed["ImageTilesDataset"]


def test_features_peers(run: Run, shared_data: Path, tmp_path: Path) -> None:
    image = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"
    printed = run("features_peers.py", "--quick", "--image", str(image), "--out", str(tmp_path))
    assert "embed_he" in printed
    runs = pd.DataFrame(json.loads((tmp_path / "features.json").read_text())["runs"])
    assert runs[["crops", "n_crops"]].to_numpy().tolist() == [["cells", 50], ["grid", 50]]
    assert (runs[["seconds", "cpu_seconds", "memory_gib"]] > 0).all(axis=None)
    assert runs["likeness"].tolist() == pytest.approx([1, 1])


def test_features_peers_are_compared_turn_by_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    script = runpy.run_path(str(FOLDER / "features_peers.py"))
    columns = ["method", "turn", "seconds", "cpu_seconds", "memory_gib", "likeness"]
    costs = [
        ("embed_he", 0, 2.0, 1.0, 1.5, 1.0),
        ("lazyslide", 0, 6.0, 2.0, 1.0, 0.9),
        ("embed_he", 1, 4.0, 1.0, 1.25, 1.0),
        ("lazyslide", 1, 4.0, 4.0, 1.0, 0.8),
    ]
    rows = pd.DataFrame(costs, columns=columns).assign(crops="grid", network="resnet18")
    summary = script["summarise"](rows)
    assert summary[0]["seconds"] == {"ours": 3, "theirs": 5, "ratio": 2, "least": 1, "most": 3}
    assert summary[0]["cpu_seconds"]["ratio"] == 3
    row = "| grid | resnet18 | lazyslide | 3.0 / 5.0 | 2.00 (1.00 to 3.00) | 3.00 (2.00 to 4.00) | 1.5 / 1.0 | 0.8000 |"
    assert script["to_table"](summary).splitlines()[-1] == row


def test_texture(run_apart: Run, shared_data: Path) -> None:
    image = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"
    *speeds, alike = run_apart("texture.py", "--quick", "--image", str(image)).splitlines()
    assert len(speeds) == 2
    assert all(float(line.split("; ")[1].split()[0]) > 2 for line in speeds)  # more in a whole window
    assert float(alike.split("median ")[1].split(",")[0]) > 0.9


def test_simulate(run: Run) -> None:
    assert "seconds" in run("simulate.py", "--n-cells", "500")


def test_he_realism(run: Run, shared_data: Path) -> None:
    header, *lines = run("he_realism.py", "--quick").splitlines()
    assert header.split() == ["CMU-1", "seed", "3"]
    rows = {line[:12].strip(): [float(word) for word in line[12:].split() if word != "-"] for line in lines}
    assert 0 < rows["H&E alone"][0] < 1  # of the simulated slide
    for stain in "HE":
        for at in (0, 1):  # the contrast of a stain falls with the scale
            assert rows[f"{stain} cv 1"][at] > rows[f"{stain} cv 16"][at] > rows[f"{stain} cv 128"][at] > 0.1


def test_nuclei(run_apart: Run, shared_data: Path) -> None:
    output = run_apart("nuclei.py", "--quick", "--data", str(shared_data))
    lines = output.splitlines()
    purple = {line[:30].strip(): float(line.split()[-3].strip("/")) for line in lines if line.count("/") == 3}
    assert purple["unet"] > purple["tree"] > purple["Otsu, watershed"]
    assert output.count("F1 1.0000") == 2  # tiles against whole
    assert "training repeats to the same bits: True" in output


def test_exports(run_apart: Run) -> None:
    lines = run_apart("exports.py", "--quick").splitlines()
    cpu = {line[:28].strip(): float(line[28:].split()[1]) for line in lines[2:]}
    assert cpu["to_geojson"] < cpu["GeoDataFrame.to_file"]  # a fifth or less of it at 100,000
    assert "to_geojson, regions" in cpu


def test_tiles(run_apart: Run) -> None:
    lines = run_apart("tiles.py", "--quick").splitlines()
    laid = {line[:24].strip(): line[24:].split() for line in lines[1:3]}
    assert float(laid["spatialdata.aggregate"][2]) > 3 * float(laid["sd.pp.tiles"][2])  # 30 and more at 100,000
    speed = {(line[:24].strip(), line.split()[-5]): float(line.split()[-2]) for line in lines[4:]}
    for encoder in ("colour", "texture"):
        assert speed["sd.pp.embed_tiles", encoder] > speed["one crop at a time", encoder]
