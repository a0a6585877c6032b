from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from stdistill._support import threads
from stdistill._support.threads import FreeCpus, FreeThreads, kept_threads, one_thread

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test turns: its only entry is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(threads.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(threads.time, "process_time", lambda: 0.0)
    return now


@pytest.fixture
def stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the system says of four CPUs, of which this process may use two."""
    path = tmp_path / "stat"
    monkeypatch.setattr(threads, "STAT", path)
    monkeypatch.setattr(threads, "cpus_of_process", lambda: {1, 2})
    monkeypatch.setattr(threads, "n_cpus", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield path
    torch.set_num_threads(before)


def write(path: Path, *seconds: float) -> None:
    """User time of the four CPUs; all of them have been idle and waiting for the disk for a while as well."""
    lines = [f"cpu{number} {int(value * TICKS)} 0 0 90000 70000 0 0 0 5 0" for number, value in enumerate(seconds)]
    path.write_text("\n".join(["cpu  1 2 3 4", *lines, "intr 5"]))


def test_counts_what_others_use_of_the_same_cpus(stat: Path, clock: list[float]) -> None:
    write(stat, 0, 10, 10, 0)
    cpus = FreeCpus()
    assert cpus.count() is None
    clock[0] += 10
    write(stat, 10, 15, 10, 10)  # one of ours was used half of the time, the others are not ours
    assert cpus.count() == pytest.approx(1.5)
    clock[0] += 10
    write(stat, 10, 25, 20, 10)
    assert cpus.count() == pytest.approx(0.0)


def test_own_work_is_not_that_of_others(stat: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    write(stat, 0, 0, 0, 0)
    cpus = FreeCpus()
    clock[0] += 10
    write(stat, 0, 10, 10, 0)
    monkeypatch.setattr(threads.time, "process_time", lambda: 20.0)
    assert cpus.count() == pytest.approx(2.0)


def test_where_the_system_does_not_tell(stat: Path, clock: list[float]) -> None:
    cpus = FreeCpus()
    clock[0] += 10
    assert cpus.count() == 2.0


def test_threads_follow_the_free_cpus_and_come_back(stat: Path, clock: list[float]) -> None:
    write(stat, 0, 0, 0, 0)
    free = FreeThreads()
    clock[0] += 10
    write(stat, 0, 9, 0, 0)
    with free:
        assert torch.get_num_threads() == 1
        clock[0] += 1
        write(stat, 0, 9, 0, 0)
        free.adjust()  # it is too early to look again
        assert torch.get_num_threads() == 1
        clock[0] += 10
        free.adjust()
        assert torch.get_num_threads() == 2
        clock[0] += 10
        write(stat, 0, 50, 50, 0)
        free.adjust()
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_one_thread_stays_one(stat: Path, clock: list[float]) -> None:
    torch.set_num_threads(1)
    write(stat, 0, 0, 0, 0)
    free = FreeThreads()
    clock[0] += 10
    with free:
        assert torch.get_num_threads() == 1


def test_one_thread_for_a_while() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        with pytest.raises(KeyError), one_thread():
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_threads_are_kept() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with kept_threads():
            torch.set_num_threads(2)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
