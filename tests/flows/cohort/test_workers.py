from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stdistill._runs.cohort import CohortFolder

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system kills in another way")


def begun(folder: Path, **texts: str) -> CohortFolder:
    """A cohort whose slides are texts."""
    (folder / "slides").mkdir()
    paths = [folder / "slides" / f"{name}.svs" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    cohort = CohortFolder(folder / "cohort")
    cohort.begin(pd.DataFrame({"slide": list(map(str, paths))}), command="predict", parameters={})
    return cohort


def test_a_killed_worker_loses_no_slide(tmp_path: Path, start: Callable[..., Any]) -> None:
    """As by the system when memory runs out: one slide kills whoever takes it, another one only the first."""
    cohort = begun(tmp_path, a="well", b="deadly", c="broken", d="deadly once", e="well")
    process = start(cohort.path, 2)
    out, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    found = cohort.statuses()
    assert found["status"].to_dict() == {"a": "done", "b": "failed", "c": "failed", "d": "done", "e": "done"}
    assert found.loc["b", "reason"].startswith("2 processes were killed while they worked on it")
    assert found.loc["c", "reason"] == "It is broken."
    lines = out.splitlines()
    assert sorted(line.partition("] ")[2][:2] for line in lines) == ["a:", "b:", "c:", "d:", "e:"]
    assert lines[-1].startswith("[5/5] ")
    assert errors.count("killed by signal 9") == 3
    assert not list((cohort.path / "locks").iterdir())
    assert "Traceback" in (cohort.path / "status" / "c.log").read_text()
    assert "Traceback" not in errors


def test_two_processes_take_each_slide_once(tmp_path: Path, start: Callable[..., Any]) -> None:
    cohort = begun(tmp_path, **{f"s{number}": "well" for number in range(12)})
    processes = [start(cohort.path, 1) for _ in range(2)]
    lines = []
    for process in processes:
        out, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
        lines += out.splitlines()
    assert len(lines) == 12
    assert (cohort.statuses()["status"] == "done").all()
    assert all((cohort.result(slide_id) / "tries").read_text().count(" ") == 1 for slide_id in cohort.slides.index)
