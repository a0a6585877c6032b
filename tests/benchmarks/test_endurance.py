"""Short runs of what measures how results survive."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

Run = Callable[..., str]

pytestmark = pytest.mark.skipif(
    not (hasattr(signal, "SIGKILL") and hasattr(os, "fork")), reason="the system kills in another way"
)


def test_kills_change_nothing(run_apart: Run) -> None:
    lines = run_apart("endurance.py", "kills", "--stages", "distill", "--n-kills", "2", "--n-cells", "500").splitlines()
    stage, _, n_kills, n_ends, n_equal = lines[-1].split()
    assert (stage, n_kills) == ("distill", "2")
    assert n_equal == n_ends >= "1"


def test_nothing_looks_whole_that_is_not(run_apart: Run) -> None:
    out = run_apart("endurance.py", "disks", "--n-cells", "500")
    assert out.count("OK") >= 3  # those that take no root
    for word in ("LOOKS WHOLE", "IS NOT THERE", "NAMES NO PLACE", "OTHER", "exit code", "Traceback"):
        assert word not in out, out
