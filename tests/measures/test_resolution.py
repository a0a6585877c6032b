"""The search for a resolution, with communities whose number is known for each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stdistill._measures.resolution import MAX_TRIALS, search_resolution


def clusters(number: Callable[[float], int], tried: list[float] | None = None) -> Callable[[float], np.ndarray]:
    def communities(resolution: float) -> np.ndarray:
        if tried is not None:
            tried.append(resolution)
        return np.arange(200) % number(resolution)

    return communities


@pytest.mark.parametrize("k", [1, 2, 7, 20, 64, 150])
def test_a_number_that_is_reached(k: int) -> None:
    """Larger than what the first resolution gives, and smaller."""
    found = search_resolution(clusters(lambda resolution: 1 + int(10 * resolution)), k, fewest=1)
    assert found.n_clusters == k == len(np.unique(found.labels))
    assert 1 + int(10 * found.resolution) == k


def test_the_first_resolution_is_taken_where_it_fits() -> None:
    tried: list[float] = []
    assert search_resolution(clusters(lambda _: 10, tried), 10, fewest=1).resolution == 1.0
    assert tried == [1.0]


def test_a_number_that_is_leapt_over() -> None:
    """From 8 to 12: the nearest is taken, of two equally near the lower."""
    steps = clusters(lambda resolution: 8 if resolution < 2.7 else 12)
    assert search_resolution(steps, 9, fewest=1).n_clusters == 8
    assert search_resolution(steps, 10, fewest=1).n_clusters == 8
    assert search_resolution(steps, 11, fewest=1).n_clusters == 12


def test_no_fewer_than_there_are_parts() -> None:
    """What is not connected stays apart at any resolution: that is found soon, and not looked for to the end."""
    tried: list[float] = []
    found = search_resolution(clusters(lambda resolution: max(5, int(40 * resolution)), tried), 2, fewest=5)
    assert found.n_clusters == 5
    assert len(tried) < 6


@pytest.mark.parametrize("number", [3, 30])
def test_it_ends_where_nothing_changes(number: int) -> None:
    tried: list[float] = []
    found = search_resolution(clusters(lambda _: number, tried), 10, fewest=1)
    assert found.n_clusters == number
    assert found.resolution == 1.0
    assert len(tried) <= MAX_TRIALS


def test_numbers_that_do_not_rise_all_the_way() -> None:
    """Leiden is random: a resolution may give fewer than a lower one. The best that was seen is returned."""
    rng = np.random.default_rng(0)
    seen: list[int] = []

    def number(resolution: float) -> int:
        seen.append(max(1, int(10 * resolution + rng.integers(-2, 3))))
        return seen[-1]

    found = search_resolution(clusters(number), 33, fewest=1)
    assert abs(found.n_clusters - 33) == min(abs(each - 33) for each in seen)
