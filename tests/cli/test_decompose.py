from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import stdistill as sd
from stdistill._cli import main


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["decompose", *map(str, arguments)])


def ended(out: Path) -> dict[str, str]:
    return {step["step"]: step["ended"] for step in json.loads((out / "manifest.json").read_text())["steps"]}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spots of three patients, with features and proportions whose names are those of real types."""
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([2, 1, 1], 240)
    names = [f"spot-{i}" for i in range(240)]
    spots = ad.AnnData(np.zeros((240, 1), dtype=np.float32), obs=pd.DataFrame(index=names))
    spots.obs["patient"] = np.repeat(["a", "b", "c"], [80, 80, 80])
    spots.obsm["spatial"] = rng.uniform(0, 3000, (240, 2))
    spots.obsm["X_he"] = np.c_[truth, rng.normal(size=(240, 3))].astype("float32")
    spots.obsm["X_more"] = rng.normal(size=(240, 2)).astype("float32")
    spots.obsm["stereoscope"] = pd.DataFrame(truth, columns=["B", "T ", "CAFs MSC"], index=names)
    sd.pp.neighborhoods(spots, radius_um=400, library_key="patient")
    path = tmp_path_factory.mktemp("table") / "spots.h5ad"
    spots.write_h5ad(path)
    return path


def test_a_table_with_groups(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = [table, "--target", "stereoscope", "--features", "X_he", "--features", "X_more", "--group", "patient"]
    options += ["--library", "patient"]
    options += ["--epochs", "1", "--out", out]
    first = run(*options)
    assert first.exit_code == 0, first.output
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "abundance.png",
        "abundance_scores.png",
        "cells.h5ad",
        "colocalization.png",
        "cross_validation.csv",
        "he_abundance",
        "manifest.json",
        "ridge_abundance",
        "scores.csv",
        "steps",
    }
    scores = pd.read_csv(out / "scores.csv")
    assert scores["method"].unique().tolist() == ["mlp", "ridge", "knn", "mean"]
    assert set(scores["group"]) == {"a", "b", "c", "all"}
    cells = ad.read_h5ad(out / "cells.h5ad")
    assert sd.get.abundances(cells, "he_abundance").columns.tolist() == ["B", "T", "CAFs MSC"]
    model = sd.models.CompositionModel.load(out / "ridge_abundance")
    before = cells.obsm["ridge_abundance"].copy()
    sd.tl.predict(cells, model, key_added="ridge_abundance", library_key="patient")
    np.testing.assert_array_equal(cells.obsm["ridge_abundance"], before)

    steps = ended(out)
    (out / "steps" / "ridge_abundance.h5ad").unlink()
    again = run(*options)
    assert again.exit_code == 0, again.output
    assert ended(out) == steps
    assert "cv_mlp" in cells.obsm
    assert again.output.splitlines()[-8:] == first.output.splitlines()[-8:]
    other = run(*options[:-4], "--epochs", "2", "--out", out)
    assert other.exit_code == 1
    assert "run with other parameters (epochs" in other.output


def test_a_bundle(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(bundle, "--encoder", "texture", "--method", "ridge", "--out", out)
    assert result.exit_code == 0, result.output
    cells = ad.read_h5ad(out / "cells.h5ad")
    scores = sd.tl.abundance_scores(cells, keys="ridge_abundance")
    written = pd.read_csv(out / "scores.csv")
    pd.testing.assert_frame_equal(written, scores.reset_index(drop=True), check_dtype=False)
    unseen = scores.query("type == 'all' and cells == 'unseen'").iloc[0]
    assert (
        unseen["n_rows"] == ((cells.obs["split"] == "test") & cells.obs["cell_type"].notna()).sum() or unseen["cc"] > 0
    )
    assert unseen["cc"] > 0.1
    assert not (out / "he_abundance").exists()
    assert (out / "features" / "X_he").is_dir()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--target", "nothing"], 1, "--target='nothing' is not cell types in .obs or abundances in .obsm"),
        (["--features", "X_uni"], 1, "--features='X_uni' is not features in .obsm; there is: 'X_he', 'X_more'"),
        (["--group", "donor", "--target", "stereoscope"], 1, "group_key='donor' is not a column of .obs"),
        (["--cell-types", "FILE"], 2, "--cell-types goes with a bundle"),
    ],
)
def test_what_is_not_there(table: Path, tmp_path: Path, options: list[str], code: int, message: str) -> None:
    result = run(table, *[str(table) if one == "FILE" else one for one in options], "--out", tmp_path / "out")
    assert result.exit_code == code
    assert message in " ".join(result.output.split())


def test_groups_are_of_tables(bundle: Path, tmp_path: Path) -> None:
    result = run(bundle, "--group", "patient", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "--group goes with a table" in result.output
