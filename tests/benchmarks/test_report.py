"""A short run of what measures reports."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., str]


def test_report(run_apart: Run) -> None:
    lines = run_apart("report.py", "--n-cells", "500").splitlines()
    folder, single = (line.split() for line in lines if line.startswith(("folder", "single file")))
    assert float(folder[1]) < 60
    assert float(folder[6]) < 10
    assert float(single[2]) < 60
    assert single[-2:] == ["1", "files"]


def test_writers_stream(run_apart: Run) -> None:
    """Six times as many cells take no more memory than outlines of a block and of a tile."""
    lines = run_apart("report.py", "--n-cells", "60000", "--memory").splitlines()
    peaks = [int(line.split("+")[1].split()[0]) for line in lines if "peak" in line]
    assert len(peaks) == 4
    assert max(peaks) < 400
