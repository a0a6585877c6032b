"""A short run of what measures ranks of tiles: that it works, and that its orders of magnitude hold."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., str]


def test_retrieval(run: Run) -> None:
    lines = run("retrieval.py", "--quick").splitlines()
    found = {words[0]: [float(word) for word in words[1:]] for words in map(str.split, lines[1:])}
    assert list(found) == ["ranks", "dense", "retrieval"]
    for n, seconds, mb, mean in (found["ranks"], found["dense"]):
        assert n == 3000
        assert seconds < 5
        assert mb < 150
        assert 100 < mean < 1000
    assert abs(found["ranks"][3] - found["dense"][3]) <= 0.01  # another order of sums may turn a tie
