"""Short runs of what measures cohorts."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest

Run = Callable[..., str]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system kills in another way")
def test_kills_change_nothing(run_apart: Run) -> None:
    out = run_apart("cohort.py", "kills", "--n-slides", "2", "--n-kills", "1", "--patience", "0.6")
    assert ", 1 kills: " in out
    assert "done: 2 of 2; slides finished more than once: 0" in out
    assert "equal to the undisturbed run: 2 of 2" in out


def test_how_busy_the_encoder_is(run_apart: Run) -> None:
    options = ["--n-slides", "2", "--n-cells", "800", "--side", "800", "--workers", "2"]
    found = re.search(r"an encoder is busy in (\d+)% of (\d+) s", run_apart("cohort.py", "busy", *options))
    assert found is not None
    assert 0 < int(found[1]) <= 100
