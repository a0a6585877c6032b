"""How-to pages whose code says that it runs as it stands: it does, and what they say of it is so."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import spatialdata

PAGES = Path(__file__).parents[2] / "docs" / "how-to"


def code(name: str) -> str:
    """All Python of a page, in its order."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (PAGES / name).read_text(encoding="utf-8"), re.DOTALL))


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def saved(
    bundle: Path, narrow: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """The names that the page on writing leaves, and the folder it wrote to; the slide is that of the tests."""
    text, n = re.subn(r"sd\.datasets\.simulate_xenium\(.*?\)", repr(str(bundle)), code("save.md"))
    assert n == 1
    names: dict[str, Any] = {}
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        exec(compile(text.replace('"slide/outs"', repr(str(bundle))), "save.md", "exec"), names)
    return names, folder


def test_niches_are_read_back(saved: tuple[dict[str, Any], Path]) -> None:
    names, _ = saved
    written = names["sdata"]["table"].obs["student_niche"]
    for read in (names["cells"], names["slide"]["table"], names["again"]["table"], names["light"]["table"]):
        pd.testing.assert_series_equal(read.obs["student_niche"], written)


def test_the_loaded_student_says_the_same(saved: tuple[dict[str, Any], Path]) -> None:
    obs = saved[0]["again"]["table"].obs
    assert obs["student_niche"].notna().sum() > 100
    pd.testing.assert_series_equal(obs["loaded_niche"], obs["student_niche"], check_names=False)


def test_a_table_that_is_written_anew_has_what_came_later(saved: tuple[dict[str, Any], Path]) -> None:
    again = spatialdata.read_zarr(saved[1] / "slide.zarr")
    assert "he_leiden_niche" in again["table"].obs
    assert list(again.images) == ["he"]


def test_the_image_grows_when_it_is_written(saved: tuple[dict[str, Any], Path], bundle: Path) -> None:
    (file,) = bundle.glob("*he_image.ome.tif")
    assert size(saved[1] / "slide.zarr" / "images") > 3 * file.stat().st_size
    assert size(saved[1] / "cells.zarr") < size(saved[1] / "slide.zarr") / 2


def test_the_light_slide_finds_its_cells_on_the_image(saved: tuple[dict[str, Any], Path]) -> None:
    import stdistill as sd

    pd.testing.assert_frame_equal(sd.get.he_pixels(saved[0]["light"]), sd.get.he_pixels(saved[0]["sdata"]))


@pytest.mark.parametrize("is_heard", [False, True])
def test_silent_unless_asked(is_heard: bool) -> None:
    text = code("log.md")
    (shown,) = re.findall(r"```text\n(.*?)```", (PAGES / "log.md").read_text(encoding="utf-8"), re.DOTALL)
    if not is_heard:
        text = "\n".join(line for line in text.splitlines() if not line.startswith("logging."))
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert ran.stderr == (shown if is_heard else "")
