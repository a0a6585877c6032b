"""The notebooks run, and what is stored with them can be shown to anybody."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MACHINE = re.compile(r"/(home|root|tmp|work|Users|var)/|[A-Z]:\\\\|\r|it/s|crops/s|Warning|Traceback", re.MULTILINE)
"""Paths, progress bars, warnings and errors."""


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {
        "first_map",
        "several_slides",
        "cohort",
        "own_teacher",
        "what_is_niche_7",
        "evaluate",
        "without_xenium",
        "composition",
        "alignment",
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs(path: Path) -> None:
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = set()
    for cell in cells:
        for output in cell["outputs"]:
            assert output.get("name") != "stderr"
            text = "".join(output.get("text", [])) + "".join(output.get("data", {}).get("text/plain", []))
            assert not MACHINE.search(text), text
            kinds |= {output["output_type"], *output.get("data", {})}
    assert "error" not in kinds
    assert "image/png" in kinds
    assert path.stat().st_size < 2**20


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_executes(runner: ModuleType, path: Path, narrow: dict[str, int], tmp_path: Path) -> None:
    """With small networks and few epochs."""
    short = tmp_path / path.name
    text = re.sub(r"(epochs=)\d+", r"\g<1>2", path.read_text(encoding="utf-8"))
    smaller = f"; from stdistill.models.niche.arguments import SIZES; SIZES['small'] = {narrow}"
    text, n = re.subn(r"(?<=\")import stdistill as sd", rf"\g<0>{smaller}", text)
    assert n == 1
    short.write_text(text, encoding="utf-8")
    executed = runner.execute(short, tmp_path)
    now = [cell for cell in executed.cells if cell.cell_type == "code"]
    for new, old in zip(
        now, code_cells(path), strict=True
    ):  # figures where there were figures, text where there was text
        assert [sorted(each.get("data", {})) for each in new.outputs] == [
            sorted(each.get("data", {})) for each in old["outputs"]
        ]
