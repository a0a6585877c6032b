"""Which CPUs a process may use; order, errors and how far ahead threads run."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any

import dask.array as da
import numpy as np
import pytest
from scipy.spatial import cKDTree

from stdistill._graph import bins, radius, radius_graph
from stdistill._slide import windows
from stdistill._slide.plan import plan_crops
from stdistill._slide.pyramid import SlideLevel
from stdistill._support import cpus
from stdistill._support.cpus import N_WORKERS, n_cpus, ordered_map


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """As a scheduler would give it on a machine with more."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system knows no affinity")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The numbers of threads that are asked for."""
    numbers: list[int | None] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int | None = None) -> None:
            numbers.append(max_workers)
            super().__init__(max_workers)

    class Tree(cKDTree):
        def query(self, *arguments: Any, workers: int = 1, **options: Any) -> Any:
            numbers.append(workers)
            return super().query(*arguments, workers=workers, **options)

        def query_ball_point(self, *arguments: Any, workers: int = 1, **options: Any) -> Any:
            numbers.append(workers)
            return super().query_ball_point(*arguments, workers=workers, **options)

    monkeypatch.setattr(bins, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(windows, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(radius, "cKDTree", Tree)
    return numbers


def test_only_those_the_process_may_use(one_cpu: None) -> None:
    assert n_cpus() == 1


def test_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert n_cpus() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert n_cpus() == 1


def test_neighborhoods(one_cpu: None, asked_for: list[int | None]) -> None:
    centers = np.random.default_rng(0).uniform(0, 500, (500, 2))
    one_slide = np.zeros(500, dtype=np.int64)
    radius_um = radius.neighborhood_radius(centers, one_slide, 10, 0)
    radius_graph.radius_graph(centers, radius_um, one_slide)
    assert len(asked_for) > 4
    assert set(asked_for) == {1}


def test_reading_of_windows(one_cpu: None, asked_for: list[int | None]) -> None:
    level = SlideLevel(da.zeros((3, 64, 64), dtype=np.uint8, chunks=(3, 16, 16)), np.ones(2))
    plan = plan_crops(level, np.arange(2), np.array([[0, 0], [40, 40]]), 16)
    list(windows.read_windows(level, plan.windows, np.full(3, 255, dtype=np.uint8)))
    assert set(asked_for) == {1}


class OneWorker(ThreadPoolExecutor):
    """Has a single thread, and opens a gate when it is asked to end."""

    gate: threading.Event

    def __init__(self, _: int) -> None:
        super().__init__(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self.gate.set()
        return super().__exit__(kind, error, trace)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """One thread with up to five items in flight; the gate opens when the pool ends."""
    monkeypatch.setattr(OneWorker, "gate", threading.Event(), raising=False)
    monkeypatch.setattr(cpus, "ThreadPoolExecutor", OneWorker)
    monkeypatch.setattr(cpus, "N_WORKERS", 4)
    return OneWorker.gate


def test_nothing_gives_nothing() -> None:
    assert list(ordered_map(str, [])) == []


def test_a_slow_first_item_is_still_first() -> None:
    def work(i: int) -> int:
        time.sleep(0.05 if i == 0 else 0)
        return -i

    assert list(ordered_map(work, range(12))) == [-i for i in range(12)]


def test_an_endless_source_is_read_as_needed() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for i in itertools.count():
            taken.append(i)
            yield i

    results = ordered_map(lambda i: i * i, source())
    for n in range(20):
        assert next(results) == n * n
        assert len(taken) == n + N_WORKERS + 1
    results.close()


def test_never_more_at_once_than_workers() -> None:
    lock, busy, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.002)
        with lock:
            busy -= 1

    list(ordered_map(work, range(30)))
    assert 1 <= most <= N_WORKERS


def test_results_before_an_error_are_delivered() -> None:
    results = ordered_map(lambda i: 1 / (3 - i), range(100))
    assert list(itertools.islice(results, 3)) == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_an_error_of_the_source_is_raised() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(ordered_map(lambda i: i, source()))


@pytest.mark.parametrize("fails", [False, True])
def test_what_waits_is_cancelled(gate: threading.Event, fails: bool) -> None:
    """Items behind the running one never start, whether an item fails or the results are given up."""
    started: list[int] = []
    second = threading.Event()

    def work(i: int) -> int:
        started.append(i)
        if i == 1:
            second.set()
            gate.wait(10)
        if i == 0 and fails:
            raise RuntimeError("first")
        return i

    results = ordered_map(work, range(100))
    if fails:
        with pytest.raises(RuntimeError, match="first"):
            next(results)
    else:
        assert next(results) == 0
        assert second.wait(10)
        results.close()
    assert gate.is_set()
    assert set(started) <= {0, 1}


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    list(ordered_map(lambda i: i, range(20)))
    assert threading.active_count() == before


def test_keeps_the_order() -> None:
    def slow(i: int) -> int:
        time.sleep(0.002 * (i % 3))
        return i * i

    assert list(ordered_map(slow, range(40))) == [i * i for i in range(40)]


def test_runs_only_a_little_ahead() -> None:
    started: list[int] = []
    results = ordered_map(lambda i: started.append(i), range(1000))
    next(results)
    time.sleep(0.05)
    assert len(started) <= N_WORKERS + 2
    results.close()


def test_uses_other_threads_and_passes_errors_on() -> None:
    assert threading.get_ident() not in set(ordered_map(lambda _: threading.get_ident(), range(4)))
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda i: 1 // i, [2, 1, 0, 1]))


ahead = partial(ordered_map, n_threads=1, n_ahead=2)


def test_one_thread_in_order() -> None:
    assert list(ahead(lambda part: part**2, range(10))) == [n**2 for n in range(10)]
    assert list(ahead(lambda part: part, [])) == []


def test_it_works_while_one_computes_and_not_further_ahead() -> None:
    made: list[int] = []

    def make(part: int) -> int:
        made.append(part)
        return part

    batches = ahead(make, range(100))
    assert next(batches) == 0
    end = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == list(range(3))


def test_an_error_comes_in_its_place_of_one_thread() -> None:
    def make(part: int) -> float:
        return 1 / (2 - part)

    batches = ahead(make, range(5))
    assert [next(batches), next(batches)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_whoever_stops_leaves_no_thread() -> None:
    before = threading.active_count()
    batches = ahead(lambda part: part, range(100))
    next(batches)
    batches.close()
    assert threading.active_count() == before
