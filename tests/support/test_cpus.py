from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask.array as da
import numpy as np
import pytest
from scipy.spatial import cKDTree

from stdistill._graph import bins, radius, radius_graph
from stdistill._slide import windows
from stdistill._slide.plan import plan_crops
from stdistill._slide.pyramid import SlideLevel
from stdistill._support.cpus import n_cpus


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """As a scheduler would give it on a machine with more."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system knows no affinity")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The numbers of threads that are asked for."""
    numbers: list[int | None] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int | None = None) -> None:
            numbers.append(max_workers)
            super().__init__(max_workers)

    class Tree(cKDTree):
        def query(self, *arguments: Any, workers: int = 1, **options: Any) -> Any:
            numbers.append(workers)
            return super().query(*arguments, workers=workers, **options)

        def query_ball_point(self, *arguments: Any, workers: int = 1, **options: Any) -> Any:
            numbers.append(workers)
            return super().query_ball_point(*arguments, workers=workers, **options)

    monkeypatch.setattr(bins, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(windows, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(radius, "cKDTree", Tree)
    return numbers


def test_only_those_the_process_may_use(one_cpu: None) -> None:
    assert n_cpus() == 1


def test_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert n_cpus() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert n_cpus() == 1


def test_neighborhoods(one_cpu: None, asked_for: list[int | None]) -> None:
    centers = np.random.default_rng(0).uniform(0, 500, (500, 2))
    one_slide = np.zeros(500, dtype=np.int64)
    radius_um = radius.neighborhood_radius(centers, one_slide, 10, 0)
    radius_graph.radius_graph(centers, radius_um, one_slide)
    assert len(asked_for) > 4
    assert set(asked_for) == {1}


def test_reading_of_windows(one_cpu: None, asked_for: list[int | None]) -> None:
    level = SlideLevel(da.zeros((3, 64, 64), dtype=np.uint8, chunks=(3, 16, 16)), np.ones(2))
    plan = plan_crops(level, np.arange(2), np.array([[0, 0], [40, 40]]), 16)
    list(windows.read_windows(level, plan.windows, np.full(3, 255, dtype=np.uint8)))
    assert set(asked_for) == {1}
