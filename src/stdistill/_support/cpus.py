"""Which CPUs there are to compute on, and work in threads on several of them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def cpus_of_process() -> set[int]:
    """CPUs that this process may use: a scheduler may give it fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # neither on macOS nor on Windows
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def n_cpus() -> int:
    """Count the CPUs that this process may use."""
    return len(cpus_of_process())


N_WORKERS = min(8, n_cpus())
"""Threads, and about as many results that wait in memory."""


def ordered_map(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    n_threads: int | None = None,
    n_ahead: int | None = None,
) -> Iterator[_Result]:
    """Apply a function that releases the interpreter lock to every item, at most a few results ahead.

    Parameters
    ----------
    function, items
        What to do, and with what.
    n_threads
        By default `N_WORKERS`.
    n_ahead
        Results that may wait, by default as many as there are threads.
    """
    n_threads = N_WORKERS if n_threads is None else n_threads
    n_ahead = n_threads if n_ahead is None else n_ahead
    with ThreadPoolExecutor(n_threads) as pool:
        pending: deque[Future[_Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > n_ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
