"""The command from bundles to one space: what it writes, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import stdistill as sd
from stdistill._cli import main

TILES = ["--encoder", "texture", "--tile-px", "128", "--min-cells", "2"]
OPTIONS = [*TILES, "--expression-epochs", "1", "--epochs", "2", "--device", "cpu"]
AT_HAND = {"X_scVI", "aligned", "features", "steps", "manifest.json", "retrieval.csv", "expression_probe.csv"}
AT_HAND |= {"tiles.h5ad", "cells.h5ad", "tiles.png", "retrieval.png", "training.png"}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["align", *map(str, arguments)])


def finished(out: Path) -> dict[str, str]:
    path = out / "manifest.json"
    return {step["step"]: step["ended"] for step in json.loads(path.read_text())["steps"]} if path.is_file() else {}


@pytest.fixture(scope="module")
def killed(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed when it had the features of the tiles."""
    out = tmp_path_factory.mktemp("align") / "out"
    command = [sys.executable, "-c", "from stdistill._cli import main; main()", "align", str(bundle), *OPTIONS]
    process = subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.DEVNULL)
    while process.poll() is None and "X_he" not in finished(out):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return out


@pytest.fixture(scope="module")
def complete(killed: Path, bundle: Path) -> tuple[Path, str]:
    """The same folder after the same command was run again, and what it said."""
    before = finished(killed)
    assert "aligned" not in before
    result = run(bundle, *OPTIONS, "--out", killed)
    assert result.exit_code == 0, result.output
    assert finished(killed).items() >= before.items()
    return killed, result.output


def test_goes_on_after_a_kill(complete: tuple[Path, str]) -> None:
    out, text = complete
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == AT_HAND
    assert list(finished(out)) == ["table", "split", "tiles", "X_scVI", "X_he", "aligned"]
    tiles, cells = ad.read_h5ad(out / "tiles.h5ad"), ad.read_h5ad(out / "cells.h5ad")
    assert {"X_he_micro", "X_aligned_he", "X_aligned_expression_macro"} <= set(tiles.obsm)
    assert {"X_scVI", "X_sigmma_micro", "X_sigmma_meso", "X_sigmma_macro"} <= set(cells.obsm)
    assert {"read_xenium", "split_strips", "embed_expression"} <= set(cells.uns["stdistill"])
    np.testing.assert_array_equal(tiles.obs["aligned_fitted"], tiles.obs["split"] == "train")
    np.testing.assert_array_equal(tiles.obs["aligned_rank_he_to_expression"].notna(), tiles.obs["split"] == "test")
    recall = sd.tl.retrieval(tiles)
    written = pd.read_csv(out / "retrieval.csv", dtype={"slide": str})
    pd.testing.assert_frame_equal(written, recall, check_dtype=False)
    assert written["method"].unique().tolist()[-3:] == ["ridge", "CCA", "linear InfoNCE"]
    probe = pd.read_csv(out / "expression_probe.csv")
    assert probe["key"].unique().tolist()[-2:] == ["X_aligned_he", "training mean"]
    assert "H&E to expression" in text
    assert "chance" in text


def test_models_are_kept(complete: tuple[Path, str], bundle: Path) -> None:
    """Both are needed for another slide, whose expression is looked for: they give this one what it has."""
    out, _ = complete
    tiles, cells = ad.read_h5ad(out / "tiles.h5ad"), ad.read_h5ad(out / "cells.h5ad")
    slide = sd.pp.read_xenium(bundle)
    sd.pp.embed_expression(slide, model=out / "X_scVI")
    np.testing.assert_allclose(slide["table"].obsm["X_scVI"], cells.obsm["X_scVI"], atol=1e-5)
    assert (cells.obs["X_scVI_fitted"] == (cells.obs["split"] == "train")).all()
    sd.pp.tiles(slide, tile_px=128, min_cells=2, split_key=None)
    sd.tl.predict(slide, out / "aligned", split_key=None)
    assert set(tiles.obs["aligned_model"]) == set(slide["tiles"].obs["aligned_model"])
    centres = slide["tiles"].obsm["spatial"]  # also of the tiles across the border of the split
    found = [np.abs(centres - centre).sum(axis=1).argmin() for centre in tiles.obsm["spatial"]]
    np.testing.assert_allclose(slide["tiles"].obsm["X_aligned_he"][found], tiles.obsm["X_aligned_he"], atol=1e-5)


def test_what_was_removed_is_made_again(
    complete: tuple[Path, str], bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, _ = complete
    steps = finished(out)
    weights = (out / "aligned" / "model.safetensors").read_bytes()
    before = ad.read_h5ad(out / "tiles.h5ad").obsm["X_aligned_expression"]
    for name in ("tiles.h5ad", "retrieval.csv"):
        (out / name).unlink()
    assert run(bundle, *OPTIONS, "--out", out).exit_code == 0
    assert "aligned: finished before" in caplog.text
    np.testing.assert_array_equal(ad.read_h5ad(out / "tiles.h5ad").obsm["X_aligned_expression"], before)
    shutil.rmtree(out / "aligned")
    result = run(bundle, *OPTIONS, "--out", out)
    assert result.exit_code == 0, result.output
    assert (out / "aligned" / "model.safetensors").read_bytes() == weights
    assert finished(out) == steps
    assert not (out / "checkpoints").exists()


def test_another_run_is_refused(complete: tuple[Path, str], bundle: Path, tmp_path: Path) -> None:
    out, _ = complete
    other = run(bundle, *OPTIONS, "--edges", "none", "--out", out)
    assert other.exit_code == 1
    assert "edges: 'stochastic', now 'none'" in other.output
    two = run(bundle, bundle, *OPTIONS, "--out", out)
    assert "n_bundles: 1, now 2" in two.output
    slide = sd.datasets.simulate_xenium(tmp_path / "other" / "outs", n_cells=900, seed=5)
    another = run(slide, *OPTIONS, "--out", out)
    assert "another slide or with other features (n_cells" in another.output


def test_several_bundles_have_one_latent(bundle: Path, tmp_path: Path) -> None:
    other = sd.datasets.simulate_xenium(tmp_path / "other" / "outs", n_cells=900, seed=1)
    out = tmp_path / "out"
    result = run(bundle, other, *OPTIONS, "--scale", "macro", "--edges", "none", "--out", out)
    assert result.exit_code == 0, result.output
    tables = [ad.read_h5ad(out / f"cells_{number}.h5ad") for number in (0, 1)]
    assert [table.n_obs for table in tables] == [800, 900]
    assert len({table.uns["stdistill"]["embed_expression"]["model_sha256"] for table in tables}) == 1
    assert all((table.obs["X_scVI_fitted"] == (table.obs["split"] == "train")).all() for table in tables)
    assert sd.models.load(out / "aligned").card.scales == ["macro"]
    assert set(pd.read_csv(out / "retrieval.csv")["slide"]) == {0, 1}
    names = {path.name for path in out.iterdir()}
    assert {"features_0", "features_1", "tiles_0.png", "tiles_1.h5ad"} <= names
    assert {"tiles_0", "tiles_1", "X_he_0", "X_he_1", "aligned"} <= set(finished(out))


def test_a_bundle_that_is_broken(own_bundle: Path, tmp_path: Path) -> None:
    (own_bundle / "simulated_he_image.ome.tif").unlink()
    result = run(own_bundle, *OPTIONS, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "name it with --he-image" in result.output
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, *OPTIONS, "--out", tmp_path / "out").output.startswith("Error: ")


def test_no_tile_to_test_on(bundle: Path, tmp_path: Path) -> None:
    """It is said before anything is fitted."""
    result = run(bundle, "--encoder", "texture", "--min-cells", "60", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "Lay smaller tiles (--tile-px, --mpp)" in " ".join(result.output.split())
    assert not (tmp_path / "out" / "X_scVI").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--he-image", "FILE"], "--he-image goes with one bundle; there are 2"),
        (["--scale", "nano"], "Invalid value for '--scale'"),
        (["--edges", "some"], "Invalid value for '--edges'"),
    ],
)
def test_what_is_misspelled(bundle: Path, options: list[str], message: str) -> None:
    image = str(bundle / "simulated_he_image.ome.tif")
    result = run(bundle, bundle, *[image if one == "FILE" else one for one in options])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_help_says_what_is_written() -> None:
    text = " ".join(run("--help").output.split())
    assert all(name in text for name in AT_HAND - {"steps"})
    assert run().exit_code == 2
