from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import spatialdata
from click.testing import CliRunner
from scipy.spatial import cKDTree

import stdistill as sd
from stdistill._cli import main
from stdistill._flows import predict
from stdistill._measures.verdict import WORDS
from stdistill._runs.folder import Run
from stdistill.models import NicheModel

FAST = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "max_epochs": 2, "batch_size": 128}
FAST |= {"progress_bar": False, "accelerator": "cpu"}
CROP_PX = 64
LOGITS = [f"student_logit_{niche}" for niche in range(2)]


@pytest.fixture(scope="module")
def cells(bundle: Path) -> ad.AnnData:
    """The slide of `bundle` with H&E features, and what a student made of it."""
    slide = sd.pp.read_xenium(bundle)
    sd.pp.embed_he(slide, encoder="texture", crop_px=CROP_PX)
    cells = slide["table"]
    left = cells.obsm["spatial"][:, 0] < np.median(cells.obsm["spatial"][:, 0])
    cells.obs["side"] = np.where(left, "left", "right")
    return cells


@pytest.fixture(scope="module")
def student(cells: ad.AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved student; its predictions are in `cells`."""
    model = sd.tl.distill(cells, teacher_key="side", **FAST)
    folder = tmp_path_factory.mktemp("saved") / "student"
    model.save(folder)
    return folder


@pytest.fixture
def table(cells: ad.AnnData, student: Path, tmp_path: Path) -> Path:
    """An h5ad with the features and more, but without niches, and with a graph of another radius."""
    kept = cells.copy()
    kept.obs = kept.obs.drop(columns=[key for key in kept.obs if key.startswith("student")])
    sd.pp.neighborhoods(kept, radius_um=20.0)
    kept.write_h5ad(tmp_path / "table.h5ad")
    return tmp_path / "table.h5ad"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def check_output(out: Path, expected: ad.AnnData) -> ad.AnnData:
    found = ad.read_h5ad(out / "niches.h5ad")
    assert found.obs_names.equals(expected.obs_names)
    np.testing.assert_array_equal(found.obs[LOGITS].to_numpy(), expected.obs[LOGITS].to_numpy())
    assert (found.obs["student_niche"].astype(str) == expected.obs["student_niche"].astype(str)).all()
    assert list(found.obsm) == ["spatial"]
    assert found.X is None
    assert not found.obsp
    assert "spatial_neighbors" not in found.uns
    assert found.uns["stdistill"]["predict"]["kind"] == "distillation"
    for figure in ("niches.png", "confidence.png"):
        assert (out / figure).read_bytes().startswith(b"\x89PNG")
    assert not list(out.glob(".new-*"))
    assert (out / "report" / "index.html").is_file()
    return found


def test_bundle(
    cells: ad.AnnData, student: Path, own_bundle: Path, tmp_path: Path, attempts: list[Any], monkeypatch: Any
) -> None:
    """As the student that was just trained said; the same command goes on, without embedding again."""
    before = sorted(own_bundle.rglob("*"))
    out = tmp_path / "out"
    result = run(student, own_bundle, "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(own_bundle.rglob("*")) == before
    assert attempts == []
    found = check_output(out, cells)
    confidence = found.obs["student_confidence"]
    assert f"{confidence.notna().sum()} of {cells.n_obs} cells have a niche" in result.output
    assert f"Median confidence {confidence.median():.2f}" in result.output
    assert "cell_type" in found.obs
    features = np.load(out / "features" / "features.npy")
    assert features.shape[1] == NicheModel.load(student).card.n_features
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["command"] == "predict"
    assert manifest["asked"]["data"] == str(own_bundle)
    assert [step["step"] for step in manifest["steps"]] == ["table", "X_he", "spatial_neighbors", "student", "verdict"]

    changed = (out / "features" / "features.npy").stat().st_mtime_ns
    (out / "niches.png").unlink()
    again = run(student, own_bundle, "--out", out)
    assert again.exit_code == 0, again.output
    assert (out / "features" / "features.npy").stat().st_mtime_ns == changed
    check_output(out, cells)


def test_table(cells: ad.AnnData, student: Path, table: Path, tmp_path: Path, attempts: list[Any]) -> None:
    """The graph in the file has another radius than the student's, and is not used."""
    content = table.read_bytes()
    result = run(student, table, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    found = check_output(tmp_path / "out", cells)
    assert found.uns["stdistill"]["neighborhoods"]["radius_um"] == NicheModel.load(student).radius_um
    assert table.read_bytes() == content
    assert not (tmp_path / "out" / "features").exists()
    assert attempts == []


def train_with_test_cells(cells: ad.AnnData, folder: Path) -> Path:
    """Save a student that knows what is usual by test cells."""
    y = cells.obsm["spatial"][:, 1]
    training = cells.copy()
    training.obs["split"] = np.where(y < np.quantile(y, 0.7), "train", "test")
    sd.pp.neighborhoods(training)
    sd.tl.distill(training, teacher_key="side", **FAST).save(folder)
    return folder


def test_verdict(cells: ad.AnnData, tmp_path: Path) -> None:
    """It is printed with its reasons; cells that are not to be trusted get no niche if the user says so."""
    y = cells.obsm["spatial"][:, 1]
    strange = cells.copy()
    strange.obs = strange.obs.drop(columns=[key for key in strange.obs if key.startswith("student")])
    student = train_with_test_cells(cells, tmp_path / "student")
    some = y < np.quantile(y, 0.3)
    strange.obsm["X_he"][some] = strange.obsm["X_he"][some][:, ::-1]
    strange.write_h5ad(tmp_path / "strange.h5ad")
    out = tmp_path / "out"
    loose = run(student, tmp_path / "strange.h5ad", "--out", out)
    assert loose.exit_code == 0, loose.output
    guessed = ad.read_h5ad(out / "niches.h5ad")
    trusted = guessed.obs["student_trusted"].to_numpy()
    assert not trusted[some].any()
    assert trusted.mean() > 0.5
    assert guessed.obs["student_niche"].notna().all()
    verdict = guessed.uns["stdistill"]["verdict"]
    assert f"\nVerdict: {WORDS['partly']}:\n- {verdict['reasons'][0]}\n" in loose.output
    measures = pd.read_csv(out / "verdict.csv", index_col="measure")
    assert measures.loc["trusted_share", "found"] == pytest.approx(trusted.mean())

    strict = run(student, tmp_path / "strange.h5ad", "--out", out, "--strict")
    assert strict.exit_code == 0, strict.output
    found = ad.read_h5ad(out / "niches.h5ad")
    assert (found.obs["student_niche"].notna() == trusted).all()
    assert (found.obs["student_confidence"].notna() == trusted).all()
    assert f"{trusted.sum()} of {cells.n_obs} cells have a niche" in strict.output


def test_nothing_is_left_of_a_slide_that_is_not_usable(cells: ad.AnnData, tmp_path: Path) -> None:
    student = train_with_test_cells(cells, tmp_path / "student")
    strange = cells.copy()
    strange.obs = strange.obs.drop(columns=[key for key in strange.obs if key.startswith("student")])
    strange.obsm["X_he"] = strange.obsm["X_he"][:, ::-1].copy()
    strange.write_h5ad(tmp_path / "strange.h5ad")
    out = tmp_path / "out"
    assert run(student, tmp_path / "strange.h5ad", "--out", out).exit_code == 0
    assert (out / "niches.png").exists()
    strict = run(student, tmp_path / "strange.h5ad", "--out", out, "--strict")
    assert strict.exit_code == 0, strict.output
    assert f"Verdict: {WORDS['not']}:" in strict.output
    assert ad.read_h5ad(out / "niches.h5ad").obs["student_niche"].isna().all()
    assert not (out / "niches.png").exists()


def test_cells_without_a_niche(cells: ad.AnnData, student: Path, tmp_path: Path) -> None:
    some = cells.copy()
    some.obsm["X_he"][:100] = np.nan
    some.write_h5ad(tmp_path / "some.h5ad")
    result = run(student, tmp_path / "some.h5ad", "--out", tmp_path / "out")
    assert f"{cells.n_obs - 100} of {cells.n_obs} cells have a niche" in result.output
    assert ad.read_h5ad(tmp_path / "out" / "niches.h5ad").obs["student_niche"].isna().sum() == 100
    some.obsm["X_he"][:] = np.nan
    some.write_h5ad(tmp_path / "none.h5ad")
    result = run(student, tmp_path / "none.h5ad", "--out", tmp_path / "none")
    assert result.exit_code == 1
    assert "No cell got a niche" in result.output
    assert not list((tmp_path / "none").glob("niches*"))


def test_split(cells: ad.AnnData, student: Path, tmp_path: Path) -> None:
    split = cells.copy()
    sd.pp.split_strips(split, crop_px=10, mpp=0.274)
    split.write_h5ad(tmp_path / "split.h5ad")
    assert run(student, tmp_path / "split.h5ad", "--out", tmp_path / "out").exit_code == 0
    found = ad.read_h5ad(tmp_path / "out" / "niches.h5ad")
    assert (found.obs["student_niche"].isna() == ~found.obs["split"].isin(["train", "test"])).all()


# What is refused, before anything is written


def check_refused(result: Any, out: Path, *messages: str, exit_code: int = 1) -> None:
    assert result.exit_code == exit_code, result.output
    assert all(message in " ".join(result.output.split()) for message in messages), result.output
    assert "Traceback" not in result.output
    assert not out.exists()


def test_no_such_folder(student: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_refused(run(tmp_path / "none", table, "--out", out), out, "does not exist", exit_code=2)
    check_refused(run(student, tmp_path / "none", "--out", out), out, "does not exist", exit_code=2)
    check_refused(run(student, "--out", out), out, "Missing argument 'DATA...'", exit_code=2)


def test_no_model(table: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_refused(run(bundle, table, "--out", out), out, "holds no niche model: there is no card.json")


def test_a_teacher(cells: ad.AnnData, table: Path, tmp_path: Path) -> None:
    teacher = sd.tl.nolan(cells.copy(), k=2, use_rep="X_he", key_added="he_nolan", **FAST)
    teacher.save(tmp_path / "teacher")
    out = tmp_path / "out"
    check_refused(run(tmp_path / "teacher", table, "--out", out), out, "self-distillation; expected a student")


def test_features_of_another_encoder(cells: ad.AnnData, student: Path, tmp_path: Path) -> None:
    other = cells.copy()
    other.uns["stdistill"]["embed_he"]["encoder"] = "uni2-h"
    other.write_h5ad(tmp_path / "other.h5ad")
    out = tmp_path / "out"
    check_refused(
        run(student, tmp_path / "other.h5ad", "--out", out), out, "'uni2-h', the model was trained on 'texture'"
    )


def test_no_features(cells: ad.AnnData, student: Path, tmp_path: Path) -> None:
    other = cells.copy()
    other.obsm["X_other"] = other.obsm.pop("X_he")
    other.write_h5ad(tmp_path / "other.h5ad")
    out = tmp_path / "out"
    check_refused(run(student, tmp_path / "other.h5ad", "--out", out), out, "'X_he' is not", "'X_other'")


def test_no_h5ad(student: Path, table: Path, tmp_path: Path) -> None:
    import h5py

    (tmp_path / "text.h5ad").write_text("no h5ad")
    with h5py.File(tmp_path / "matrix.h5", "w") as file:
        file["matrix"] = [1]
    for name in ("text.h5ad", "matrix.h5"):
        out = tmp_path / "out"
        check_refused(run(student, tmp_path / name, "--out", out), out, f"{name} is no h5ad of an AnnData")


def test_several_slides(cells: ad.AnnData, student: Path, tmp_path: Path) -> None:
    several = cells.copy()
    sd.pp.neighborhoods(several, library_key="side", radius_um=20.0)
    several.write_h5ad(tmp_path / "several.h5ad")
    out = tmp_path / "out"
    check_refused(run(student, tmp_path / "several.h5ad", "--out", out), out, "holds several slides")


def test_options_of_a_bundle(student: Path, table: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    image = next(bundle.glob("*he_image.ome.tif"))
    check_refused(
        run(student, table, "--he-image", image, "--out", out),
        out,
        "--he-image goes with a Xenium bundle;",
        exit_code=2,
    )


def test_another_encoder(student: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(student, bundle, "--encoder", "texture+texture", "--out", out)
    check_refused(result, out, "several different ones")
    result = run(student, bundle, "--encoder", "no-such", "--out", out)
    check_refused(result, out, "There is no encoder", "as the encoder")


def test_bundle_without_an_image(student: Path, own_bundle: Path, tmp_path: Path) -> None:
    for path in own_bundle.glob("*he_*"):
        path.unlink()
    result = run(student, own_bundle, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "name it with --he-image" in result.output


def test_features_made_by_hand(cells: ad.AnnData, bundle: Path, tmp_path: Path) -> None:
    by_hand = cells.copy()
    del by_hand.uns["stdistill"]["embed_he"]
    sd.tl.distill(by_hand, teacher_key="side", **FAST).save(tmp_path / "student")
    out = tmp_path / "out"
    check_refused(run(tmp_path / "student", bundle, "--out", out), out, "does not know how its features 'X_he'")


def test_out_holds_something_else(student: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    result = run(student, table, "--out", out)
    assert result.exit_code == 1
    assert "name a folder that is new or empty" in result.output
    assert os.listdir(out) == ["thesis.tex"]


def test_out_of_another_run(cells: ad.AnnData, student: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(student, table, "--out", out).exit_code == 0
    other = cells[::2].copy()
    other.write_h5ad(tmp_path / "other.h5ad")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    result = run(student, tmp_path / "other.h5ad", "--out", out)
    assert result.exit_code == 1
    assert "is of a run on another slide" in result.output
    model = NicheModel.load(student)
    model.card.training["note"] = "another"
    model.save(tmp_path / "another")
    result = run(tmp_path / "another", table, "--out", out)
    assert result.exit_code == 1
    assert "student_sha256" in result.output
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_failure_leaves_no_half_figure(student: Path, table: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*arguments: Any, save: Path, **keywords: Any) -> None:
        save.write_bytes(b"half")
        msg = "no space left on device"
        raise OSError(msg)

    monkeypatch.setattr(sd.pl, "niches", fail)
    result = run(student, table, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "no space left on device" in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.json", ".lock"}


# An H&E alone


def test_a_slide(student: Path, cells: ad.AnnData, own_bundle: Path, tmp_path: Path, attempts: list[Any]) -> None:
    """From a file to nuclei, features, niches, and what QuPath reads; the same command goes on."""
    (image,) = own_bundle.glob("*he_image.ome.tif")
    out = tmp_path / "out"
    result = run(student, image, "--method", "tree", "--out", out)
    assert result.exit_code == 0, result.output
    assert attempts == []
    found = ad.read_h5ad(out / "niches.h5ad")
    assert found.n_obs > 500
    assert found.obs["student_niche"].notna().all()
    # What a nucleus is told is what the cell at its place was told. The H&E is turned by a quarter against the cells.
    (alignment,) = own_bundle.glob("*imagealignment.csv")
    to_um = 0.2125 * np.loadtxt(alignment, delimiter=",")[:2]
    px = found.obsm["spatial"] / found.uns["stdistill"]["slide"]["mpp"]
    nearest = cKDTree(cells.obsm["spatial"]).query(px @ to_um[:, :2].T + to_um[:, 2])[1]
    for logit in LOGITS:
        assert np.corrcoef(found.obs[logit], cells.obs[logit].iloc[nearest])[0, 1] > 0.8
    assert "niches.geojson.gz" in result.output
    read = spatialdata.read_zarr(out / "niches.zarr")
    assert len(read.shapes["nuclei"]) == found.n_obs
    assert read["table"].obs["student_niche"].astype(str).tolist() == found.obs["student_niche"].astype(str).tolist()
    with gzip.open(out / "niches.geojson.gz", "rt") as file:
        objects = json.load(file)["features"]
    assert len(objects) == found.n_obs
    assert {each["properties"]["classification"]["name"] for each in objects} <= {"left", "right"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert [step["step"] for step in manifest["steps"]] == [
        "tissue",
        "nuclei",
        "X_he",
        "spatial_neighbors",
        "student",
        "verdict",
    ]

    made = (out / "features" / "features.npy").stat().st_mtime_ns
    assert run(student, image, "--method", "tree", "--out", out).exit_code == 0
    assert (out / "features" / "features.npy").stat().st_mtime_ns == made
    refused = run(student, image, "--method", "unet", "--out", out)
    assert refused.exit_code == 1
    assert "method" in refused.output


def test_a_slide_that_is_none(student: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    check_refused(run(student, notes, "--out", tmp_path / "out"), tmp_path / "out", "notes.txt")


def test_options_of_a_slide(student: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_refused(run(student, table, "--mpp", "0.5", "--out", out), out, "--mpp goes with an H&E;", exit_code=2)


# Resolution and weights


def test_weights_that_cannot_be_had(student: Path, attempts: list[Any], tmp_path: Path) -> None:
    """Known before the slide is read."""
    from dataclasses import replace

    model = NicheModel.load(student)
    NicheModel(model.network, replace(model.card, encoder="uni2-h"), model.history).save(tmp_path / "student")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    check_refused(run(tmp_path / "student", tmp_path / "empty", "--out", out), out, "The weights of 'uni2-h' cannot")
    shutil.rmtree(tmp_path / "empty")


def test_memory_only(cells: ad.AnnData, student: Path, table: Path) -> None:
    """The parts also work without a folder, as those of other runs."""
    model = predict.load_student(student)
    run = Run(None, command="predict", parameters={})
    niches, verdict = predict.map_niches(run, predict.read_table(table, model.card), model, predict.Asked(student))
    np.testing.assert_array_equal(niches.obs[LOGITS].to_numpy(), cells.obs[LOGITS].to_numpy())
    assert verdict.verdict == niches.uns["stdistill"]["verdict"]["verdict"]
