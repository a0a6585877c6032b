from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import spatialdata
import tifffile
from click.testing import CliRunner

import stdistill as sd
from stdistill._cli import main
from stdistill._table.he.slide_record import read_slide_record, write_slide_record


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, ["nuclei", *map(str, arguments)])


@pytest.fixture(scope="module")
def slide(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    he = tifffile.imread(bundle / "simulated_he_image.ome.tif", level=0)
    middle = he.shape[0] // 2
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    tifffile.imwrite(path, he[middle : middle + 300, 300:700], tile=(128, 128), photometric="rgb")
    return path


def test_nuclei_are_written_and_found_again(slide: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = (slide, "--mpp", 0.274, "--method", "tree", "--out", out)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "manifest.json",
        "nuclei.geojson.gz",
        "nuclei.zarr",
        "tiles",
    }
    cells = spatialdata.read_zarr(out / "nuclei.zarr")
    assert set(cells.shapes) == {"nuclei", "tissue"}
    n = cells["table"].n_obs
    assert f"{n} nuclei, of " in result.output
    features = json.loads(gzip.decompress((out / "nuclei.geojson.gz").read_bytes()))["features"]
    assert len(features) == n > 20
    properties = features[0]["properties"]
    assert properties["objectType"] == "detection"
    assert properties["measurements"]["area_um2"] == pytest.approx(cells["table"].obs["area_um2"].iloc[0], rel=1e-4)
    outline = shapely.from_geojson(json.dumps(features[0]["geometry"]))
    centre = cells["table"].obsm["spatial"][0] / 0.274
    assert np.hypot(outline.centroid.x - centre[0], outline.centroid.y - centre[1]) < 1
    sd.pp.attach_slide(cells)
    assert cells["he"]["scale0"]["image"].shape == (3, 300, 400)
    written = (out / "nuclei.zarr" / "zarr.json").stat().st_mtime_ns
    again = run(*arguments)
    assert again.exit_code == 0, again.output
    assert f"{n} nuclei, of " in again.output
    assert (out / "nuclei.zarr" / "zarr.json").stat().st_mtime_ns >= written
    other = run(slide, "--mpp", 0.5, "--method", "tree", "--out", out)
    assert other.exit_code == 1
    assert "mpp: 0.274, now 0.5" in other.output


def test_known_nuclei(slide: Path, tmp_path: Path) -> None:
    centres = tmp_path / "centres.csv"
    x, y = np.meshgrid(np.arange(20, 400, 40), np.arange(20, 300, 40))
    np.savetxt(centres, np.stack([x.ravel(), y.ravel()], axis=1), delimiter=",", header="x,y", comments="")
    result = run(slide, "--mpp", 0.274, "--nuclei", centres, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "70 nuclei.\n" in result.output
    wrong = run(slide, "--mpp", 0.274, "--nuclei", centres, "--nuclei-unit", "um", "--out", tmp_path / "other")
    assert wrong.exit_code == 1
    assert 'They would fit with nuclei_unit="px"' in wrong.output


def test_bounds_are_taken_off_for_qupath(slide: Path, tmp_path: Path) -> None:
    from stdistill._flows.nuclei import find_nuclei, write_nuclei
    from stdistill._runs.folder import Run

    image = sd.pp.read_slide(slide, mpp=0.274)
    record = read_slide_record(image)
    write_slide_record(image, record.__class__(**{**record.__dict__, "bounds": (30, 40, 300, 200)}))
    with Run(tmp_path / "out", command="nuclei", parameters={}) as made:
        find_nuclei(made, image, method="tree")
        write_nuclei(made, image)
    features = json.loads(gzip.decompress((tmp_path / "out" / "nuclei.geojson.gz").read_bytes()))["features"]
    outline = shapely.from_geojson(json.dumps(features[0]["geometry"]))
    centre = image["table"].obsm["spatial"][0] / 0.274 - (30, 40)
    assert np.hypot(outline.centroid.x - centre[0], outline.centroid.y - centre[1]) < 1


def test_what_is_missing_is_said(slide: Path, tmp_path: Path) -> None:
    assert "mpp" in run(slide, "--out", tmp_path / "out").output  # the file states no µm per pixel
    assert run(tmp_path / "none.svs").exit_code == 2
    blank = tmp_path / "blank.tif"
    tifffile.imwrite(blank, np.full((256, 256, 3), 240, np.uint8), tile=(128, 128), photometric="rgb")
    result = run(blank, "--mpp", 0.5, "--out", tmp_path / "blank")
    assert result.exit_code == 1
    assert "tissue" in result.output
    assert not (tmp_path / "blank" / "nuclei.zarr").exists()
