"""A short run of the benchmark of explanations: the type that decides comes first, and the niche goes with it."""

from __future__ import annotations

import re
from collections.abc import Callable

Run = Callable[..., str]


def test_explain(run: Run) -> None:
    lines = run("explain.py", "--quick").split("\n\n")[0].splitlines()
    rows = {line.split()[0]: dict(re.findall(r"([a-zA-Z5][^,]*?) (-?\d+\.\d{3})", line)) for line in lines}
    assert set(rows) == {"integrated_gradients", "leave_one_out"}
    found = {name: float(value) for name, value in rows["integrated_gradients"].items()}
    assert found["precision of 5"] >= 0.8
    assert found["by chance"] < 0.3
    assert found["steps below"] == 1
    assert found["completeness error"] < 0.03
