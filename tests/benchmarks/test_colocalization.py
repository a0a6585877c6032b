"""Short runs of what measures co-localisation: that it works, and that its orders of magnitude hold."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., str]


def test_colocalization(run_apart: Run) -> None:
    sizes, peers, spreads = (block.splitlines() for block in run_apart("colocalization.py", "--quick").split("\n\n"))
    seconds = {line[:20].strip(): float(line[20:].split()[2]) for line in sizes[1:]}
    assert seconds["spots"] < 1
    assert seconds["cells"] < 3
    assert len(peers) >= 2
    for line in peers[1:]:
        assert float(line.split(" R ")[1].split(",")[0]) < 1e-6
    found = {line[:20].strip(): [float(word) for word in line[20:].split()] for line in spreads[2:]}
    for both, _, _ in found.values():
        assert 0.9 < both < 1.1
    assert found["patches of 3"][1] > 2
    assert found["scattered"][2] < 0.15
