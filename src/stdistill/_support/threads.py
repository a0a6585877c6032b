"""Torch's threads: as many as there are CPUs that nobody else uses, or one.

Threads of OpenMP meet at a barrier hundreds of times in a step of training, and spin while they wait. Where another
process takes the CPU of one of them all others wait for it: with two threads beside three busy processes on two CPUs
training all but stops, and with one thread it takes its share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from threadpoolctl import threadpool_limits

from stdistill._support.cpus import cpus_of_process, n_cpus

INTERVAL_S = 5.0
"""How often is looked."""
SHORTEST_S = 0.2
"""What the CPUs did in less time than this says little."""
STAT = Path("/proc/stat")
IDLE_FIELDS = (3, 4)
"""Of a line of that file: idle, and waiting for the disk."""
GUEST_FIELDS = slice(8, None)
"""Counted among the others already."""


class FreeCpus:
    """How many CPUs other processes leave to this one, between one question and the next."""

    def __init__(self) -> None:
        self._time, self._busy = time.monotonic(), _busy_seconds()

    def count(self) -> float | None:
        """CPUs that this process may use, less those that others used since this was last asked.

        `None` when that was a moment ago.
        """
        now = time.monotonic()
        elapsed = now - self._time
        if elapsed < SHORTEST_S:
            return None
        before, self._busy, self._time = self._busy, _busy_seconds(), now
        if before is None or self._busy is None:
            return float(n_cpus())
        return n_cpus() - (self._busy - before) / elapsed


class FreeThreads:
    """Torch's threads while something is computed, adjusted now and then to what is free.

    It never takes more than torch has when it begins, which a user may have set, and puts that back at the end.
    """

    def __init__(self) -> None:
        self._most = torch.get_num_threads()
        self._free = FreeCpus()
        self._next = 0.0

    def __enter__(self) -> Self:
        self.adjust()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if torch.get_num_threads() != self._most:
            torch.set_num_threads(self._most)

    def adjust(self) -> None:
        """Look whether it is time to look, and take as many threads as there are free CPUs, at least one."""
        if self._most == 1 or time.monotonic() < self._next:
            return
        free = self._free.count()
        if free is None:
            return
        threads = max(1, min(self._most, round(free)))
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        self._next = time.monotonic() + INTERVAL_S


@contextmanager
def kept_threads() -> Iterator[None]:
    """Leave torch as many threads as it has.

    numba sets those of OpenMP, which are torch's as well, when it first computes in parallel: what is fitted afterwards
    would have other bits than what was fitted before.
    """
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch, BLAS and OpenMP compute with one thread.

    Bits of a result then do not depend on how many there are; and what consists of many small products, such as k-means
    and logistic regression of scikit-learn, is not held up by threads that wait for each other.
    """
    with kept_threads(), threadpool_limits(1):
        torch.set_num_threads(1)
        yield


def _busy_seconds() -> float | None:
    """Seconds that other processes have used the CPUs of this one; `None` where the system does not tell."""
    try:
        lines = [line.split() for line in STAT.read_text().splitlines() if line.startswith("cpu")]
    except OSError:  # neither on macOS nor on Windows
        return None
    mine = {f"cpu{number}" for number in cpus_of_process()}
    ticks = sum(sum(_busy_ticks(fields)) for name, *fields in lines if name in mine)
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()


def _busy_ticks(fields: list[str]) -> list[int]:
    counted = fields[: GUEST_FIELDS.start]
    return [int(ticks) for number, ticks in enumerate(counted) if number not in IDLE_FIELDS]
