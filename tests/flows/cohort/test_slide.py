from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from filelock import SoftFileLease

from stdistill._flows.cohort import slide, work
from stdistill._flows.cohort.slide import MAX_TRIES, Unit
from stdistill._flows.cohort.work import work_through
from stdistill._flows.predict import Asked
from stdistill._runs.cohort import CohortFolder

Call = dict[str, Any]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What would have been predicted; nothing is."""
    made: list[Call] = []

    def predict(model: Any, data: Path, out: Path, asked: Asked, *, copy: Path | None = None) -> Any:
        out.mkdir(parents=True, exist_ok=True)
        made.append({"data": data, "asked": asked, "copy": copy, "content": None if copy is None else copy.read_text()})
        ended = "2026-01-01T00:00:00+00:00"
        steps = [{"step": step, "seconds": s, "ended": ended} for step, s in (("nuclei", 2.0), ("student", 1.0))]
        (out / "manifest.json").write_text(json.dumps({"steps": steps}))
        if data.read_text() == "broken":
            warnings.warn("It looks odd.", stacklevel=1)
            raise KeyError("no such key")
        if data.read_text() == "interrupted":
            raise KeyboardInterrupt
        if data.read_text() == "busy":
            data.write_text("whole")
            raise BlockingIOError("another process writes there")
        return SimpleNamespace(n_obs=3, obs=pd.DataFrame({"student_niche": ["a", None, "b"]})), SimpleNamespace(
            verdict="partly"
        )

    monkeypatch.setattr(slide, "predict", predict)
    monkeypatch.setattr(work, "load_student", lambda folder: None)
    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0.01)
    return made


def begun(folder: Path, contents: dict[str, str], **columns: list[str]) -> tuple[CohortFolder, list[str]]:
    paths = [folder / f"{name}.svs" for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_text(content)
    cohort = CohortFolder(folder / "cohort")
    slides = pd.DataFrame({"slide": list(map(str, paths)), **columns})
    return cohort, list(cohort.begin(slides, command="predict", parameters={}))


def test_results_and_failures(tmp_path: Path, calls: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    cohort, ids = begun(tmp_path, {"a": "whole", "b": "broken", "c": "whole"})
    (tmp_path / "c.svs").unlink()
    lines: list[str] = []
    work_through(Unit(cohort, Asked(tmp_path)), ids, lines.append)
    assert lines == [
        "[1/3] a: done in 3 s, 2 of 3 cells, partly",
        "[2/3] b: failed. no such key",
        f"[3/3] c: failed. There is no slide {tmp_path / 'c.svs'}.",
    ]
    found = cohort.status("a")
    assert found["seconds"] == {"nuclei": 2.0, "student": 1.0}
    assert {"started", "ended", "host", "pid"} <= found.keys()
    assert cohort.status("b")["error"] == "KeyError"
    assert cohort.status("b")["seconds"] == {"nuclei": 2.0, "student": 1.0}
    log = (cohort.path / "status" / "b.log").read_text()
    assert "no such key" in log
    assert capsys.readouterr().err == ""

    work_through(Unit(cohort, Asked(tmp_path)), ids, lines.append)  # neither those that are done nor those that failed
    assert len(lines) == 3
    cohort.forget_failure("b")
    (tmp_path / "b.svs").write_text("whole")
    work_through(Unit(cohort, Asked(tmp_path)), ids, lines.append)
    assert lines[3:] == ["[3/3] b: done in 3 s, 2 of 3 cells, partly"]


def test_what_is_said_of_a_slide_goes_before_what_is_said_of_all(tmp_path: Path, calls: list[Call]) -> None:
    nuclei = str(tmp_path / "nuclei.csv")
    cohort, ids = begun(tmp_path, {"a": "1", "b": "2"}, mpp=["0.25", ""], nuclei=["", nuclei])
    work_through(Unit(cohort, Asked(tmp_path, mpp=0.5)), ids, lambda _: None)
    assert [call["asked"].mpp for call in calls] == [0.25, 0.5]
    assert [call["asked"].nuclei for call in calls] == [None, Path(nuclei)]


def test_a_copy_is_read_and_removed(tmp_path: Path, calls: list[Call]) -> None:
    cohort, ids = begun(tmp_path, {"a": "whole", "b": "broken"})
    stage = tmp_path / "local"
    work_through(Unit(cohort, Asked(tmp_path), stage), ids, lambda _: None)
    assert [call["data"] for call in calls] == [tmp_path / "a.svs", tmp_path / "b.svs"]
    assert [call["content"] for call in calls] == ["whole", "broken"]
    assert all(call["copy"].is_relative_to(stage) for call in calls)
    assert list(stage.iterdir()) == []
    assert "stage" in cohort.status("a")["seconds"]


def test_an_interrupt_is_no_failure(tmp_path: Path, calls: list[Call]) -> None:
    cohort, ids = begun(tmp_path, {"a": "interrupted"})
    with pytest.raises(KeyboardInterrupt):
        work_through(Unit(cohort, Asked(tmp_path)), ids, lambda _: None)
    assert cohort.statuses()["status"].tolist() == ["waiting"]
    assert not list((cohort.path / "locks").iterdir())


def test_who_killed_its_processes_is_given_up(tmp_path: Path, calls: list[Call]) -> None:
    cohort, ids = begun(tmp_path, {"a": "whole"})
    cohort.tries("a").write_text(f"{MAX_TRIES} 0")
    work_through(Unit(cohort, Asked(tmp_path)), ids, lambda _: None)
    assert cohort.status("a")["error"] == "Killed"
    assert calls == []
    cohort.forget_failure("a")
    cohort.tries("a").write_text("")  # as of a process that was killed when it wrote it
    work_through(Unit(cohort, Asked(tmp_path)), ids, lambda _: None)
    assert cohort.status("a")["status"] == "done"


def test_who_comes_further_each_time_is_not_given_up(tmp_path: Path, calls: list[Call]) -> None:
    """As on a machine that is taken away and given back again and again."""
    cohort, ids = begun(tmp_path, {"a": "whole"})
    cohort.tries("a").write_text(f"{MAX_TRIES} 3")  # of steps, and now there are none: another count
    work_through(Unit(cohort, Asked(tmp_path)), ids, lambda _: None)
    assert cohort.status("a")["status"] == "done"


def test_a_folder_that_another_process_writes_to_waits(tmp_path: Path, calls: list[Call]) -> None:
    cohort, ids = begun(tmp_path, {"a": "busy"})
    work_through(Unit(cohort, Asked(tmp_path)), ids, lambda _: None)
    assert cohort.status("a")["status"] == "done"
    assert len(calls) == 2


def test_results_are_not_put_in_place_by_who_lost_the_lease(
    tmp_path: Path, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process that was suspended for long."""
    cohort, _ = begun(tmp_path, {"a": "whole"})
    with cohort.lease("a") as lease:
        monkeypatch.setattr(SoftFileLease, "compromise", "lost")
        with pytest.raises(BlockingIOError, match="took it over"):
            Unit(cohort, Asked(tmp_path)).work_on("a", None, lease)  # type: ignore[arg-type]
    assert cohort.statuses()["status"].tolist() == ["waiting"]
