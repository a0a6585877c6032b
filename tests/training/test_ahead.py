"""Batches made in the background."""

from __future__ import annotations

import threading
import time

import pytest

from stdistill._training.ahead import AHEAD, made_ahead


def test_each_part_in_order() -> None:
    assert list(made_ahead(lambda part: part**2, range(10))) == [n**2 for n in range(10)]
    assert list(made_ahead(lambda part: part, [])) == []


def test_it_works_while_one_computes_and_not_further_ahead() -> None:
    made: list[int] = []

    def make(part: int) -> int:
        made.append(part)
        return part

    batches = made_ahead(make, range(100))
    assert next(batches) == 0
    end = time.monotonic() + 10
    while len(made) < 1 + AHEAD and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == list(range(1 + AHEAD))


def test_an_error_comes_in_its_place() -> None:
    def make(part: int) -> float:
        return 1 / (2 - part)

    batches = made_ahead(make, range(5))
    assert [next(batches), next(batches)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_whoever_stops_leaves_no_thread() -> None:
    before = threading.active_count()
    batches = made_ahead(lambda part: part, range(100))
    next(batches)
    batches.close()
    assert threading.active_count() == before
