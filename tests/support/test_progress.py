from __future__ import annotations

import pytest

from stdistill._support import progress
from stdistill._support.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_file_gets_a_line_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    work = Progress(1000, "Training", "steps")
    for step in range(1000):
        clock[0] += 0.25
        work.advance(1, loss=1 / (step + 1))
    work.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("Training: 240 of 1,000 steps (24%), 1 min 0 s, 3 min 10 s left (loss 0.0042")
    assert lines[-1] == "Training: 1,000 of 1,000 steps (100%), 4 min 10 s (loss 0.0010)"


def test_what_is_short_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    work = Progress(10, "Training", "steps")
    clock[0] += 59
    work.advance(10)
    work.close()
    assert capsys.readouterr().err == ""


def test_what_was_done_before_is_not_counted_as_fast(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    work = Progress(100, "scVI", "epochs", done=90)
    clock[0] += 3600
    work.advance(5)
    assert capsys.readouterr().err == "scVI: 95 of 100 epochs (95%), 1 h 0 min, 1 h 0 min left\n"


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    work = Progress(10, "Training", "steps")
    work.advance(4, loss=0.5)
    work.close()
    shown = capsys.readouterr().err
    assert "Training:" in shown
    assert "4/10" in shown


def test_what_ends_before_its_bar_appears_shows_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    work = Progress(10, "Niches", "cells", delay=60)
    work.advance(10)
    work.close()
    assert capsys.readouterr().err == ""
