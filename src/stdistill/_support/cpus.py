"""Which CPUs there are to compute on."""

from __future__ import annotations

import os


def cpus_of_process() -> set[int]:
    """CPUs that this process may use: a scheduler may give it fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # neither on macOS nor on Windows
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def n_cpus() -> int:
    """Count the CPUs that this process may use."""
    return len(cpus_of_process())
