"""A short run of the comparison of cohorts with known truth: few false alarms, intervals that cover."""

from __future__ import annotations

import re
from collections.abc import Callable

Run = Callable[..., str]


def read(lines: list[str]) -> list[dict[str, float]]:
    """Take the named numbers of each line."""
    return [
        {name.strip(): float(value) for name, value in re.findall(r"([A-Za-z][^,]*?) (-?\d\.\d{3})", line[50:])}
        for line in lines
    ]


def test_compare_niches(run: Run) -> None:
    alarms, effects, _ = (block.splitlines() for block in run("compare_niches.py", "--quick").split("\n\n"))
    assert len(alarms) == len(effects) == 4
    for row in read(alarms[1:]):
        assert row["p ≤ .05"] < 0.1
        assert row["KS p"] > 0.001
        assert row["cells as units"] > 0.8
    for row in read(effects[1:]):
        assert row["sign"] > 0.7
        assert row["all niches"] > 0.85
