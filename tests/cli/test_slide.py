from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from stdistill._cli import main


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, ["slide", *map(str, arguments)])


def write(path: Path, *, mpp: float | None = 0.25, names: tuple[str, ...] = ("",), side: int = 512) -> Path:
    pixels = np.full((side, side, 3), 236, np.uint8)
    pixels[100:300, 100:300] = (190, 110, 160)
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for name in names:
            words = {"axes": "YXS", **({"Name": name} if name else {})}
            words |= {} if mpp is None else {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
            tiff.write(pixels, tile=(128, 128), photometric="rgb", compression="deflate", metadata=words)
    return path


def test_in_words(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.ome.tif", side=2400)
    result = run(path)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert max(map(len, lines[1:])) <= 100
    said = {" ".join(line.split()) for line in lines}
    assert {
        "format ome",
        "size 2400 × 2400 px",
        "0.60 × 0.60 mm",
        "µm per px 0.2500 (PhysicalSize in the OME-XML)",
        "level 0: 2400 × 2400 px",
        "level 1: 600 × 600 px, computed",
        "sd.pp.read_slide reads it.",
    } <= said


def test_as_json(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.ome.tif", names=("A", "B"))
    found = json.loads(run(path, "--json", "--scene", "B").output)
    assert found["scenes"] == [{"name": name, "width": 512, "height": 512} for name in "AB"]
    assert (found["scene"], found["format"], found["mpp"]) == ("B", "ome", 0.25)
    assert found["levels"] == [{"width": 512, "height": 512, "stored": True}]
    assert found["warnings"] == found["problems"] == []
    assert json.loads(run(path, "--json", "--scene", "1").output) == found


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"mpp": None}, "does not state its µm per pixel. Give it with mpp="),
        ({"mpp": 0.025}, "Ten times as much, 0.25,"),
        ({"names": ("A", "B")}, "holds 2 scenes (0: 'A', 512 × 512 px; 1: 'B', 512 × 512 px)"),
    ],
)
def test_what_hinders_reading(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    result = run(write(tmp_path / "slide.ome.tif", **options))
    assert result.exit_code == 1
    assert problem in " ".join(result.output.split())
    assert result.output.endswith("sd.pp.read_slide refuses it as it is.\n")


def test_no_slide(tmp_path: Path) -> None:
    path = tmp_path / "he.svs"
    path.write_text("<html>404</html>")
    assert "he.svs is no image: it is an HTML page" in " ".join(run(path).output.split())
    assert run(tmp_path / "missing.svs").exit_code == 2


def test_all_odd_slides_are_described(shared_data: Path) -> None:
    """Each ends in a sentence; the exit code says whether it can be read as it is."""
    for path in sorted((shared_data / "slides_odd").glob("[0-9]*.*")):
        if path.is_dir():
            continue
        result = run(path)
        ending = result.output.splitlines()[-1]
        assert ending.startswith("sd.pp.read_slide"), path.name
        assert (result.exit_code == 0) == ("reads it" in ending)
        assert "Traceback" not in result.output
