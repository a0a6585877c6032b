"""How many CPUs there are to compute on."""

from __future__ import annotations

import os


def n_cpus() -> int:
    """CPUs that this process may use: a scheduler may give it fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # neither on macOS nor on Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
