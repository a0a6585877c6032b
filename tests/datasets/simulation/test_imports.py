"""The folders of the simulator import one way only, and no file imports in a circle."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from stdistill.datasets import _simulation

ROOT = Path(_simulation.__file__).parent
FOLDERS = re.findall(r"^``(\w+)``$", _simulation.__doc__ or "", flags=re.MULTILINE)
"""In the order in which they are documented."""


def imports_of(file: Path) -> set[str]:
    """Modules of the simulator that a file imports from, as ``folder.name``, wherever in the file it does so."""
    names = [node.module or "" for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    prefix = f"{_simulation.__name__}."
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


IMPORTS = {f"{file.parent.name}.{file.stem}": imports_of(file) for file in ROOT.glob("*/*.py")}


def test_all_folders_are_documented() -> None:
    assert sorted(FOLDERS) == sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_from_itself_and_those_before_it(folder: str) -> None:
    used = {name.split(".")[0] for module, names in IMPORTS.items() if module.startswith(folder) for name in names}
    assert used <= set(FOLDERS[: FOLDERS.index(folder) + 1])


def test_no_file_imports_in_a_circle() -> None:
    order = list(TopologicalSorter(IMPORTS).static_order())
    assert set(order) == set(IMPORTS)
