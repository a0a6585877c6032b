from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

FOLDER = Path(__file__).parents[2] / "benchmarks"

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a script, and returns what it prints: in this process, where all is loaded and compiled, but where
    a garbage collection of what the suite holds takes a second: whose seconds are told is run apart."""

    def run(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # some allow more
        monkeypatch.syspath_prepend(FOLDER)
        capsys.readouterr()
        runpy.run_path(str(FOLDER / script), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def run_apart() -> Run:
    """Runs a script in a process of its own, for those that measure it or leave torch with other settings."""

    def run(script: str, *arguments: str) -> str:
        command = [sys.executable, str(FOLDER / script), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return run
