from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist

from stdistill._measures.profiles.exemplars import pick_apart, top_two


def test_the_best_that_lie_apart() -> None:
    centers = np.array([[0.0, 0], [1, 0], [500, 0], [501, 0], [1000, 0]])
    scores = np.array([5.0, 4, 3, 2, 1])
    assert pick_apart(scores, centers, 3, 100).tolist() == [0, 1, 2]  # a quarter of five cells is less than three
    rest = np.full(15, -1.0), np.full((15, 2), 9000.0)
    scores, centers = np.concatenate([scores, rest[0]]), np.concatenate([centers, rest[1]])
    assert pick_apart(scores, centers, 3, 100).tolist() == [0, 2, 4]  # of twenty it is five


def test_none_is_far_down_the_list() -> None:
    rng = np.random.default_rng(0)
    scores, centers = rng.normal(size=400), rng.uniform(0, 2000, (400, 2))
    picked = pick_apart(scores, centers, 6, 150)
    assert len(set(picked)) == 6
    assert scores[picked].min() >= np.sort(scores)[-100]
    assert pdist(centers[picked]).min() > 150
    assert (np.diff(scores[picked]) <= 0).all()


def test_few_cells_are_all_taken_and_none_is_no_error() -> None:
    scores, centers = np.array([1.0, 3, 2]), np.zeros((3, 2))
    assert pick_apart(scores, centers, 6, 100).tolist() == [1, 2, 0]
    assert pick_apart(scores[:0], centers[:0], 6, 100).tolist() == []
    assert pick_apart(scores, centers, 0, 100).tolist() == []


def test_top_two() -> None:
    logits = np.array([[1.0, 4, 3], [5, 0, 2], [np.nan, np.nan, np.nan]], dtype=np.float32)
    margin, second = top_two(logits)
    np.testing.assert_allclose(margin, [1, 3, np.nan])
    assert second[:2].tolist() == [2, 2]
    assert np.isnan(top_two(logits[:, :1])[0]).all()
