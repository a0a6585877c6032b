"""The rooms of the package: who may import whom, and how large files and folders are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "stdistill"
MAX_LINES = 400
MAX_FILES = 14
"""About a dozen, and the folder's own ``__init__.py``."""
LISTS = ("pp", "tl", "pl")
"""These have a file for each public function, as many as there are."""


def test_the_contracts_are_kept() -> None:
    """Those of pyproject.toml: no arrow up, no circle, pictures without tools, tensors without tables."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert checked.returncode == 0, checked.stdout


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    assert {str(path.relative_to(SOURCE)): n for path, n in lengths.items() if n > MAX_LINES} == {}


def test_folders_are_small() -> None:
    counts = {
        folder: len(list(folder.glob("*.py")))
        for folder in SOURCE.rglob("*")
        if folder.is_dir() and folder.name not in LISTS
    }
    assert {str(folder.relative_to(SOURCE)): n for folder, n in counts.items() if n > MAX_FILES} == {}


def test_one_file_per_public_function() -> None:
    import stdistill as sd

    for namespace in ("pp", "tl", "pl", "io"):
        files = {path.stem for path in (SOURCE / namespace).glob("*.py")} - {"__init__"}
        assert files == {f"_{name}" for name in getattr(sd, namespace).__all__}


def test_functions_take_from_one_another_what_users_can_call() -> None:
    """What two of them share beside lies on a lower floor, so that each of these folders is a list of functions."""
    import stdistill as sd

    taken = {}
    for namespace in LISTS:
        for path in (SOURCE / namespace).glob("_[!_]*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"stdistill.{namespace}."):
                    hidden = {each.name for each in node.names} - set(getattr(sd, namespace).__all__)
                    if hidden:
                        taken[f"{namespace}/{path.name}"] = hidden
    assert taken == {}
