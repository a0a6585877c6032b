from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdistill._measures.instances import Matches, match_overlaps, match_places


def boxes(*corners: tuple[int, int, int, int]) -> np.ndarray:
    labels = np.zeros((20, 20), dtype=np.int32)
    for number, (top, left, bottom, right) in enumerate(corners, 1):
        labels[top:bottom, left:right] = number
    return labels


def test_a_nucleus_is_found_when_more_than_half_is_shared() -> None:
    true = boxes((0, 0, 4, 4), (8, 8, 12, 12))
    found = boxes((0, 1, 4, 5), (8, 10, 12, 14))  # 12 of 20 pixels, 8 of 24
    assert match_overlaps(true, found) == Matches(1, 2, 2)
    assert match_overlaps(true, found).f1 == pytest.approx(0.5)


def test_half_is_not_enough() -> None:
    assert match_overlaps(boxes((0, 0, 4, 4)), boxes((0, 0, 4, 8))).n_matched == 0


def test_numbers_of_labels_do_not_matter() -> None:
    true = boxes((0, 0, 4, 4), (8, 8, 12, 12))
    assert match_overlaps(true, np.array([0, 70, 3])[true]) == Matches(2, 2, 2)


def test_merged_nuclei_count_once_at_most() -> None:
    assert match_overlaps(boxes((0, 0, 4, 4), (0, 4, 4, 8)), boxes((0, 0, 4, 8))) == Matches(0, 2, 1)


def test_nothing_to_find() -> None:
    empty = boxes()
    assert match_overlaps(empty, empty).f1 == 1
    assert match_overlaps(empty, boxes((0, 0, 2, 2))) == Matches(0, 0, 1)
    assert match_overlaps(boxes((0, 0, 2, 2)), empty).f1 == 0
    assert match_places(np.zeros((0, 2)), np.ones((3, 2)), radius=1) == Matches(0, 0, 3)


@given(st.integers(0, 2**32 - 1))
def test_overlaps_are_those_of_pair_by_pair_counting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, found = rng.integers(0, 4, (2, 5, 5))
    expected = sum(
        (both := np.sum((true == i) & (found == j))) > 0.5 * (np.sum(true == i) + np.sum(found == j) - both)
        for i in np.unique(true[true > 0])
        for j in np.unique(found[found > 0])
    )
    assert match_overlaps(true, found).n_matched == expected


def test_as_many_places_as_possible_are_matched() -> None:
    # The nearest to each other are the second and the first, which would leave two without partners.
    true, found = np.array([[0.0, 0], [5, 0]]), np.array([[4.0, 0], [9, 0]])
    assert match_places(true, found, radius=4.5) == Matches(2, 2, 2)


def test_places_beyond_the_radius_do_not_match() -> None:
    assert match_places(np.zeros((1, 2)), np.array([[3.0, 4.1]]), radius=5) == Matches(0, 1, 1)
    assert match_places(np.zeros((1, 2)), np.array([[3.0, 4.0]]), radius=5) == Matches(1, 1, 1)


def test_images_are_pooled_by_adding() -> None:
    assert (Matches(1, 2, 3) + Matches(4, 5, 6)).f1 == pytest.approx(10 / 16)
