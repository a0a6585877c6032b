from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import tifffile
from click.testing import CliRunner

import stdistill as sd
from stdistill._cli import main
from stdistill._runs.cohort import CohortFolder
from stdistill.models import NicheModel

FAST = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "max_epochs": 2, "batch_size": 128}
FAST |= {"progress_bar": False, "accelerator": "cpu"}
MPP = 0.274
PER_CM = (10_000_000, 274)  # a ratio: before 2026.2.20 tifffile rounds large numbers that do not end


@pytest.fixture(scope="module")
def student(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    slide = sd.pp.read_xenium(bundle)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64)
    cells = slide["table"]
    x = cells.obsm["spatial"][:, 0]
    cells.obs["side"] = np.where(x < np.median(x), "left", "right")
    folder = tmp_path_factory.mktemp("saved") / "student"
    sd.tl.distill(cells, teacher_key="side", **FAST).save(folder)
    return folder


def write(path: Path, pixels: np.ndarray, *, scaled: bool = True) -> Path:
    scale = {"resolution": (PER_CM, PER_CM), "resolutionunit": "CENTIMETER"} if scaled else {}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", **scale)
    return path


@pytest.fixture(scope="module")
def slides(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small slides, one that is truncated, one without µm per pixel, one that is blank."""
    folder = tmp_path_factory.mktemp("slides")
    (image,) = bundle.glob("*he_image.ome.tif")
    pixels = tifffile.imread(image)
    crop = pixels[100:740, 100:740]
    whole = write(folder / "a.tif", crop)
    write(folder / "b.tif", pixels[100:740, 300:940])
    (folder / "truncated.tif").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    write(folder / "unscaled.tif", crop, scaled=False)
    write(folder / "white.tif", np.full_like(crop, 243))
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def lines_of(output: str) -> dict[str, str]:
    """What the line of each slide says of it."""
    rows = [line.partition("] ")[2].partition(": ") for line in output.splitlines() if line.startswith("[")]
    return {name: said for name, _, said in rows}


def test_broken_slides_stop_no_other(student: Path, slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort [1]"
    result = run(student, slides, "--method", "tree", "--out", out, "--stage", tmp_path / "local")
    assert result.exit_code == 1, result.output
    assert f"stdistill report '{out}'\n" in result.output  # as a shell takes it
    said = lines_of(result.output)
    assert list(said) == ["a", "b", "truncated", "unscaled", "white"]
    assert said["a"].startswith("done in ")
    assert said["truncated"].startswith("failed. truncated.tif is truncated: it has ")
    assert said["unscaled"].startswith("failed. unscaled.tif does not state its µm per pixel")
    assert "Is the slide blank?" in said["white"]
    table = result.output.partition("\n\n")[2]
    for word in ("slide", "status", "stage (s)", "nuclei (s)", "X_he (s)", "cells", "verdict", "reason"):
        assert word in table.splitlines()[0]
    assert "2 done, 3 failed." in table

    cohort = CohortFolder.open(out)
    assert sorted(path.name for path in (out / "slides").iterdir()) == ["a", "b"]
    names = {"niches.h5ad", "niches.zarr", "niches.geojson.gz", "verdict.csv", "manifest.json", "features", "tiles"}
    assert names <= {path.name for path in cohort.result("a").iterdir()}
    cells = ad.read_h5ad(cohort.result("a") / "niches.h5ad")
    row = cohort.statuses().loc["a"]
    assert row["n_cells"] == cells.n_obs > 20
    assert row["n_niches"] == cells.obs["student_niche"].notna().sum()
    assert row["verdict"] == cells.uns["stdistill"]["verdict"]["verdict"]
    assert cells.uns["stdistill"]["slide"]["path"] == str(slides / "a.tif")  # not the copy
    assert list((tmp_path / "local").iterdir()) == []

    # What is done stays, also of one slide alone; what failed is tried again when that is asked for.
    made = (cohort.result("a") / "niches.h5ad").stat().st_mtime_ns
    again = run(student, slides, "--method", "tree", "--out", out)
    assert again.exit_code == 1
    assert "5 slides, 5 of them settled before" in again.output
    assert lines_of(again.output) == {}
    listed = tmp_path / "slides.csv"
    listed.write_text(f"slide,mpp,patient\n{slides}/a.tif,,7\n{slides}/unscaled.tif,{MPP},7\n")
    mended = run(student, listed, "--method", "tree", "--out", out, "--only", "unscaled", "--retry-failed")
    assert mended.exit_code == 0, mended.output
    assert list(lines_of(mended.output)) == ["unscaled"]
    assert "3 more slides are in" in mended.output  # rows that were taken out of the table
    assert "cohort[~cohort.obs_names.isin(['b', 'truncated', 'white'])]" in mended.output
    assert "have changed since" not in mended.output
    listed.write_text(f"slide,mpp,patient\n{slides}/a.tif,0.5,7\n{slides}/unscaled.tif,{MPP},7\n")
    other = run(student, listed, "--method", "tree", "--out", out)
    assert "1 slides are done, and have changed since: a (another mpp)." in other.output
    listed.write_text(f"slide,mpp,patient\n{slides}/a.tif,,7\n{slides}/unscaled.tif,{MPP},7\n")
    assert "have changed since" not in run(student, listed, "--method", "tree", "--out", out).output
    np.testing.assert_array_equal(
        ad.read_h5ad(cohort.result("unscaled") / "niches.h5ad").obsm["spatial"], cells.obsm["spatial"]
    )
    assert cohort.slides["patient"].dropna().to_dict() == {"a": "7", "unscaled": "7"}
    assert (cohort.result("a") / "niches.h5ad").stat().st_mtime_ns == made

    refused = run(student, slides, "--method", "unet", "--out", out)
    assert refused.exit_code == 1
    assert "method: 'tree', now 'unet'" in refused.output
    model = NicheModel.load(student)
    model.card.training["note"] = "another"
    model.save(tmp_path / "another")
    refused = run(tmp_path / "another", slides, "--method", "tree", "--out", out)
    assert refused.exit_code == 1
    assert "student_sha256" in refused.output


def test_options(student: Path, slides: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for shard in ("0/2", "3/2", "two", "1/0"):
        refused = run(student, slides, "--shard", shard, "--out", out)
        assert refused.exit_code == 2
        assert f"'{shard}' is no part of a number of parts" in refused.output
    (image,) = bundle.glob("*he_image.ome.tif")
    refused = run(student, slides, "--he-image", image, "--out", out)
    assert refused.exit_code == 2
    assert "--he-image goes with a Xenium bundle; these are several slides." in refused.output
    refused = run(student, slides, "--only", "none", "--out", out)
    assert refused.exit_code == 1
    assert "There is no slide 'none'. There are a, b, truncated" in refused.output


def test_nothing_is_written_where_nothing_can_be_mapped(student: Path, slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused = run(student, slides, "--encoder", "no-such", "--out", out)
    assert refused.exit_code == 1
    assert "There is no encoder" in refused.output
    pd.DataFrame({"path": ["a.tif"]}).to_csv(tmp_path / "slides.csv", index=False)
    refused = run(student, tmp_path / "slides.csv", "--out", out)
    assert refused.exit_code == 1
    assert "has the columns ['path']; expected slide" in refused.output
    assert not out.exists()
