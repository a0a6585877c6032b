from __future__ import annotations

import pytest

from stdistill._flows.cohort.begin import choose

IDS = ["a", "b", "c", "d", "e"]


def test_shards_are_all_slides_once() -> None:
    parts = [choose(IDS, (number, 3), ()) for number in (1, 2, 3)]
    assert parts == [["a", "d"], ["b", "e"], ["c"]]
    assert choose(IDS, (7, 7), ()) == []
    assert choose(IDS, None, ()) == IDS


def test_only() -> None:
    assert choose(IDS, None, ("d", "b")) == ["b", "d"]
    assert choose(IDS, (2, 2), ("d", "b")) == ["d"]
    with pytest.raises(KeyError, match=r"There is no slide 'x'. There are a, b, c, d, e; slides.csv has all"):
        choose(IDS, None, ("a", "x"))
