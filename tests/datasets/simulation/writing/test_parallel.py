"""Order, errors and how far ahead the workers run."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import pytest

from stdistill.datasets._simulation.writing import parallel
from stdistill.datasets._simulation.writing.parallel import N_WORKERS, ordered_map


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
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", OneWorker)
    monkeypatch.setattr(parallel, "N_WORKERS", 4)
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
