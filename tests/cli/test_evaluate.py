from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import stdistill as sd
from stdistill._cli import main
from stdistill._runs import prepare
from stdistill.tl import _evaluate

OPTIONS = ["--encoder", "texture", "--expression-epochs", "1", "--teacher-epochs", "1", "--student-epochs", "1"]


@pytest.fixture(scope="module")
def out(bundle: Path, narrow: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run, as a user starts it."""
    out = tmp_path_factory.mktemp("evaluated") / "evaluation"
    result = CliRunner().invoke(main, ["evaluate", str(bundle), "--k", "3", *OPTIONS, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "Agreement with the teacher" in result.output
    assert f"to {out}." in result.output
    return out


def test_what_is_written(out: Path, bundle: Path) -> None:
    assert pd.read_csv(out / "agreement.csv")["k"].tolist() == [3] * 6
    assert pd.read_csv(out / "composition_jsd.csv")["jsd"].between(0, 1).all()  # the bundle has cell_groups.csv
    assert not (out / "pathology_probe.csv").exists()
    assert {"niches_k3.png", "niches_k3.pdf", "features", "student_k3"} <= {path.name for path in out.iterdir()}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["asked"]["bundle"] == str(bundle)
    assert manifest["parameters"]["encoder"] == "texture"
    steps = [step["step"] for step in manifest["steps"]]
    assert steps[:6] == ["table", "split", "X_he", "spatial_neighbors", "X_scVI", "teacher_k3"]


def test_goes_on_and_refuses(out: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    before = pd.read_csv(copy / "agreement.csv")
    (copy / "agreement.csv").unlink()

    def fail(*args: object, **kwargs: object) -> None:
        pytest.fail("was computed again")

    for name in ("nolan", "distill", "leiden", "kmeans_niches", "logistic_niches"):
        monkeypatch.setattr(_evaluate, name, fail)
    monkeypatch.setattr(prepare, "embed_expression", fail)
    arguments = ["evaluate", str(bundle), "--k", "3", *OPTIONS, "--out", str(copy)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(pd.read_csv(copy / "agreement.csv"), before)
    other = CliRunner().invoke(main, [*arguments, "--seed", "1"])
    assert other.exit_code == 1
    assert "Error: The folder" in other.output
    assert "seed: 0, now 1" in other.output


def test_without_an_image(own_bundle: Path, tmp_path: Path) -> None:
    for path in own_bundle.glob("*he_image*"):
        path.unlink()
    result = CliRunner().invoke(main, ["evaluate", str(own_bundle), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "--he-image" in result.output


@pytest.mark.parametrize(
    "arguments", [["--k", "1"], ["--k", "ten"], ["--seed", "-1"], ["--annotations", "nowhere.geojson"]]
)
def test_misspelled(bundle: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["evaluate", str(bundle), *arguments]).exit_code == 2


@pytest.mark.parametrize(
    ("unit", "message"),
    [([], "has the one label 'Tumor'"), (["--polygons-unit", "um"], "cover no cell")],
    ids=["px", "um"],
)
def test_the_unit_of_annotations(bundle: Path, tmp_path: Path, unit: list[str], message: str) -> None:
    """The right half of the H&E, in its pixels: of 0.274 µm, so that as many µm are beyond the slide."""
    height, width = sd.pp.read_xenium(bundle)["table"].uns["stdistill"]["read_xenium"]["he_shape"]
    left, right, bottom = int(width) / 2, int(width), int(height)
    square = {"type": "Polygon", "coordinates": [[[left, 0], [right, 0], [right, bottom], [left, bottom], [left, 0]]]}
    feature = {"type": "Feature", "geometry": square, "properties": {"name": "Tumor"}}
    path = tmp_path / "annotations.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["evaluate", str(bundle), "--annotations", str(path), *unit, "--out", str(out)])
    assert result.exit_code == 1
    assert message in result.output
    assert not (out / "features").exists()  # found before the H&E is embedded
