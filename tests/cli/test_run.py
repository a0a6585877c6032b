from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import pandas as pd
import pytest
from click.testing import CliRunner

import stdistill as sd
from stdistill._cli import main

OPTIONS = ["--k", "3", "--encoder", "texture", "--expression-epochs", "1", "--teacher-epochs", "1"]
OPTIONS += ["--student-epochs", "1", "--n-augmented", "1"]


def finished(out: Path) -> dict[str, str]:
    path = out / "manifest.json"
    return {step["step"]: step["ended"] for step in json.loads(path.read_text())["steps"]} if path.is_file() else {}


@pytest.fixture(scope="module")
def killed(bundle: Path, narrow: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed when it had the H&E features."""
    out = tmp_path_factory.mktemp("run") / "out"
    code = f"""
from stdistill._cli import main
from stdistill.models.niche.arguments import SIZES
SIZES["small"] = {narrow}
main()
"""
    command = [sys.executable, "-c", code, "run", str(bundle), *OPTIONS, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and "X_he" not in finished(out):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return out


@pytest.fixture(scope="module")
def complete(killed: Path, bundle: Path) -> Path:
    """The same folder, after the same command was run again."""
    before = finished(killed)
    assert "student" not in before
    result = CliRunner().invoke(main, ["run", str(bundle), *OPTIONS, "--out", str(killed)])
    assert result.exit_code == 0, result.output
    assert finished(killed).items() >= before.items()
    return killed


def test_goes_on_after_a_kill(complete: Path) -> None:
    assert {path.name for path in complete.iterdir()} == {
        ".features.lock",
        ".features_augmented_1.lock",
        ".lock",
        "agreement.csv",
        "cells.h5ad",
        "features",
        "features_augmented_1",
        "manifest.json",
        "niches.pdf",
        "niches.png",
        "report",
        "steps",
        "student",
        "teacher",
        "training.png",
    }
    assert {"niches.png", "training.png", "agreement.csv"} < set(finished(complete))
    cells = ad.read_h5ad(complete / "cells.h5ad")
    assert cells.obs["student_niche"].cat.categories.tolist() == ["0", "1", "2"]
    assert cells.obsm["X_he_augmented_1"].shape == cells.obsm["X_he"].shape
    assert {"X_he", "X_scVI", "spatial"} <= set(cells.obsm)
    assert {"read_xenium", "split_strips", "embed_he", "nolan", "distill"} <= set(cells.uns["stdistill"])
    table = pd.read_csv(complete / "agreement.csv")
    pd.testing.assert_frame_equal(table, sd.tl.agreement(cells, keys="student_niche"))
    assert sd.models.NicheModel.load(complete / "teacher").card.kind == "self-distillation"
    assert sd.models.NicheModel.load(complete / "student").card.standardize == "slide"
    sd.tl.predict(cells, sd.models.NicheModel.load(complete / "student"), key_added="again")
    assert cells.obs["again_niche"].equals(cells.obs["student_niche"])


def test_other_parameters(complete: Path, bundle: Path) -> None:
    result = CliRunner().invoke(main, ["run", str(bundle), *OPTIONS, "--k", "4", "--out", str(complete)])
    assert result.exit_code == 1
    assert "k: 3, now 4" in result.output
    spelled_out = CliRunner().invoke(
        main, ["run", str(bundle), *OPTIONS, "--standardize", "slide", "--out", str(complete)]
    )
    assert spelled_out.exit_code == 0, spelled_out.output  # the default
    training = ["--standardize", "training"]
    result = CliRunner().invoke(main, ["run", str(bundle), *OPTIONS, *training, "--out", str(complete)])
    assert result.exit_code == 1
    assert "standardize: None, now 'training'" in result.output
    result = CliRunner().invoke(main, ["evaluate", str(bundle), "--out", str(complete)])
    assert result.exit_code == 1
    assert "command: 'run', now 'evaluate'" in result.output


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], (0, "slide")),
        (["--n-augmented", "0", "--standardize", "slide"], (0, "slide")),
        (["--n-augmented", "2"], (2, "slide")),
        (["--standardize", "training"], (0, "training")),
    ],
)
def test_what_a_student_compares_cells_with(
    options: list[str], expected: tuple[int, str], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}
    monkeypatch.setattr("stdistill._flows.run.fit_niches", lambda *_, **arguments: seen.update(arguments))
    CliRunner().invoke(main, ["run", str(bundle), *options, "--out", str(tmp_path / "out")])
    assert (seen["n_augmented"], seen["standardize"]) == expected


def test_a_folder_from_before_there_were_augmented_slides(complete: Path, bundle: Path, tmp_path: Path) -> None:
    """It goes on with the features that it has, where none are asked for."""
    older = Path(shutil.copytree(complete, tmp_path / "older"))
    manifest = json.loads((older / "manifest.json").read_text())
    assert manifest["parameters"].pop("n_augmented") == 1
    (older / "manifest.json").write_text(json.dumps(manifest))
    steps = manifest["steps"]
    result = CliRunner().invoke(main, ["run", str(bundle), *OPTIONS[:-2], "--out", str(older)])
    assert result.exit_code == 0, result.output
    assert json.loads((older / "manifest.json").read_text())["steps"][: len(steps)] == steps


def test_another_slide_leaves_all_as_it_is(complete: Path, tmp_path: Path) -> None:
    """Also the features, which are computed in the folder and would replace those that are there."""
    other = sd.datasets.simulate_xenium(tmp_path / "other" / "outs", n_cells=1_000, seed=5)

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in complete.rglob("*") if path.is_file()}

    before = content()
    result = CliRunner().invoke(main, ["run", str(other), *OPTIONS, "--out", str(complete)])
    assert result.exit_code == 1
    assert "another slide or with other features (n_cells" in result.output
    assert content() == before


def test_what_was_removed_is_made_again(complete: Path, bundle: Path) -> None:
    bits = (complete / "student" / "model.safetensors").read_bytes()
    shutil.rmtree(complete / "student")
    (complete / "cells.h5ad").unlink()
    result = CliRunner().invoke(main, ["run", str(bundle), *OPTIONS, "--out", str(complete)])
    assert result.exit_code == 0, result.output
    assert (complete / "student" / "model.safetensors").read_bytes() == bits
    assert "student_niche" in ad.read_h5ad(complete / "cells.h5ad").obs


def test_a_strip_of_one_niche_costs_the_measure_and_not_the_map(complete: Path, bundle: Path, tmp_path: Path) -> None:
    """Of the table that training ends with, the test cells are made of one niche of the teacher."""
    out = tmp_path / "out"
    shutil.copytree(complete, out)
    for name in ("cells.h5ad", "agreement.csv", "niches.png"):
        (out / name).unlink()
    step = out / "steps" / "teacher.h5ad"
    teacher = ad.read_h5ad(step)
    test = ad.read_h5ad(complete / "cells.h5ad").obs["split"].reindex(teacher.obs_names) == "test"
    teacher.obs.loc[test.to_numpy(), "teacher_niche"] = teacher.obs.loc[test.to_numpy(), "teacher_niche"].iloc[0]
    teacher.write_h5ad(step)
    result = CliRunner().invoke(main, ["run", str(bundle), *OPTIONS, "--out", str(out)])
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "How well the student follows its teacher cannot be measured." in said
    assert "split 'test') has the one label" in said
    assert "Agreement with the teacher" not in result.output
    assert ad.read_h5ad(out / "cells.h5ad").obs["student_niche"].notna().any()
    assert (out / "niches.png").is_file()
    assert not (out / "agreement.csv").exists()
    assert (out / "report" / "index.html").is_file()


def test_a_folder_of_something_else(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    result = CliRunner().invoke(main, ["run", str(bundle), "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "name a folder that is new or empty" in result.output


def test_no_bundle(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["run", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "is no Xenium folder" in result.output
    assert not (tmp_path / "out").exists()
