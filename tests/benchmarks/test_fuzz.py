"""Spoilt files of every kind are read, or refused with an error that names them; more of them in benchmarks/fuzz.py."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as on Linux")
FOLDER = Path(__file__).parents[2] / "benchmarks"
N = 60
KINDS = (
    "bundles", "deposits", "alignment files", "GeoJSON", "cell groups", "slides", "models", "hub cards", "manifests",
    "slide lists", "stores", "tables",
)  # fmt: skip

Start = Callable[[str], Any]


@pytest.fixture
def start(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Make the valid original of a kind, and what spoils it."""
    monkeypatch.syspath_prepend(FOLDER)
    fuzz, kinds = importlib.import_module("fuzz"), importlib.import_module("fuzz_kinds")

    def start(name: str) -> Any:
        kind = kinds.KINDS[name]
        if name in ("bundles", "deposits"):
            kind = replace(kind, make=partial(kind.make, source=bundle))
        return fuzz.Fuzz(kind, tmp_path, gb=2.0)

    return start


def test_all_kinds_are_tried(start: Start) -> None:
    start("slide lists")
    assert tuple(importlib.import_module("fuzz_kinds").KINDS) == KINDS


@pytest.mark.parametrize("name", KINDS)
def test_spoilt_files(name: str, start: Start) -> None:
    fuzz = start(name)
    fuzz.inputs(N, 0)()
    assert fuzz.faults == {}
    assert fuzz.outcomes["read"] + fuzz.outcomes["refused"] >= 50
    assert fuzz.outcomes["refused"] > 5


def test_faults_are_seen(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is watched for is found: a crash, a hang, memory, code, and a message that does not name the file."""
    fuzz = start("slide lists")
    monkeypatch.setattr(importlib.import_module("fuzz"), "DEADLINE_S", 0.2)

    def become(read: Callable[[Path], object]) -> str:
        fuzz.kind = replace(fuzz.kind, read=read)
        return str(fuzz.try_one("slides.csv", b""))

    def hang(folder: Path) -> None:
        while True:
            pass

    def refuse(folder: Path, error: Exception) -> None:
        raise error

    def run(folder: Path) -> None:
        import subprocess

        subprocess.run(["true"], check=True)

    assert become(lambda folder: None) == "read"
    assert become(partial(refuse, error=ValueError("slides.csv is empty"))) == "refused"
    assert become(partial(refuse, error=ValueError("it is empty"))) == "crash"
    assert become(partial(refuse, error=UnicodeDecodeError("utf-8", b"", 0, 1, "slides.csv"))) == "crash"
    assert become(partial(refuse, error=IndexError("slides.csv"))) == "crash"
    assert become(hang) == "hang"
    assert become(lambda folder: bytearray(1 << 36)) == "memory"
    assert become(run) == "code"
    assert len(fuzz.faults) == 6
