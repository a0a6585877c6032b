"""Short runs of the benchmarks of alignment."""

from __future__ import annotations

import json
from collections.abc import Callable

Run = Callable[..., str]


def test_alignment(run: Run) -> None:
    """What a tile truly consists of finds its expression better than chance, and each method has its row."""
    means = run("alignment.py", "--quick", "--variants", "none").split("means\n")[-1]
    rows = {line.rsplit(maxsplit=7)[0].strip(): line.split()[-7:] for line in means.splitlines()[2:] if line.strip()}
    assert {"CCA", "ridge", "none", "true composition"} <= set(rows)
    assert float(rows["true composition"][2]) > 0.15


def test_alignment_neighbors(run: Run) -> None:
    found = run("alignment_neighbors.py", "--quick", "--seeds", "0")
    assert "are beside one of" in found
    table = found.split("\n\n")[-1]
    assert all(name in table for name in ("stochastic", "all", "none added", "within 20 µm", "no edge"))


def test_alignment_size(run: Run) -> None:
    found = json.loads(run("alignment_size.py", "--quick").splitlines()[-1])
    assert (found["cells"], found["tiles"], found["epochs"]) == (3000, 45, 1)
    assert found["seconds"] > 0
