from __future__ import annotations

import numpy as np
import pytest

from stdistill._measures.alignment import recall
from stdistill._measures.alignment.recall import first_places, nearest, partner_ranks, recall_of, unit_rows


def brute_force(one: np.ndarray, other: np.ndarray) -> list[int]:
    """Count in a loop over pairs, in float64."""
    ranks = []
    for i, query in enumerate(one):
        own = query @ other[i] / np.linalg.norm(query) / np.linalg.norm(other[i])
        rank = 1
        for j, candidate in enumerate(other):
            if j != i and query @ candidate / np.linalg.norm(query) / np.linalg.norm(candidate) >= own - 1e-6:
                rank += 1
        ranks.append(rank)
    return ranks


def draw(n: int = 61, d: int = 5, seed: int = 0, noise: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Two views of the same tiles."""
    rng = np.random.default_rng(seed)
    one = rng.normal(size=(n, d))
    return one, one + noise * rng.normal(size=(n, d))


def test_ranks_by_hand() -> None:
    """Directions on a circle: 0°, 40°, 90° on one side, 30°, 50°, 85° on the other."""
    one, other = (np.stack([np.cos(a), np.sin(a)], axis=1) for a in np.deg2rad([[0, 40, 90], [30, 50, 85]]))
    forward, backward = partner_ranks(one, other)
    assert forward.tolist() == [1, 2, 1]  # 40° lies 10° from both of 30° and 50°: a tie, against us
    assert backward.tolist() == [2, 1, 1]  # 30° is nearer to 40° than to its own 0°


@pytest.mark.parametrize("values_at_once", [1, 200, 10**6])
def test_ranks_are_those_of_a_loop(values_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "VALUES_AT_ONCE", values_at_once)
    one, other = draw()
    other[10] = other[3]  # ties
    one[20] = one[21]
    forward, backward = partner_ranks(one, other)
    assert forward.tolist() == brute_force(one, other)
    assert backward.tolist() == brute_force(other, one)
    assert forward.max() > 5


def test_length_says_nothing() -> None:
    one, other = draw()
    scaled = one * np.random.default_rng(1).uniform(0.01, 100, (len(one), 1))
    np.testing.assert_array_equal(partner_ranks(scaled, other), partner_ranks(one, other))


def test_the_order_of_tiles_says_nothing() -> None:
    one, other = draw()
    order = np.random.default_rng(1).permutation(len(one))
    forward, backward = partner_ranks(one, other)
    np.testing.assert_array_equal(partner_ranks(one[order], other[order]), [forward[order], backward[order]])
    np.testing.assert_array_equal(partner_ranks(other, one), [backward, forward])


def test_saying_the_same_of_all_is_worst() -> None:
    same = np.tile(np.random.default_rng(0).normal(size=7), (40, 1))
    other = draw(40, 7)[1]
    forward, backward = partner_ranks(same, other)
    assert backward.tolist() == [40] * 40  # all H&E are equally near to each expression
    assert sorted(forward) == list(range(1, 41))
    assert partner_ranks(np.zeros((4, 2)), np.ones((4, 2)))[0].tolist() == [4] * 4


def test_float16_of_large_features() -> None:
    one, other = draw()
    ranks = partner_ranks((one * 1000).astype(np.float16), (other * 1000).astype(np.float16))
    assert (np.abs(np.array(ranks) - np.array(partner_ranks(one, other))) <= 2).all()


def test_one_tile() -> None:
    forward, backward = partner_ranks(np.ones((1, 3)), -np.ones((1, 3)))
    assert forward.tolist() == backward.tolist() == [1]


@pytest.mark.parametrize(
    ("p", "n", "k"),
    [
        (5, 7, 1),
        (5, 20, 1),
        (5, 21, 2),
        (5, 154, 8),
        (10, 154, 16),
        (15, 154, 24),
        (100, 9, 9),
        (5, 1, 1),
        (0.7, 1000, 7),
        (1.1, 1000, 11),
        (0.57, 10_000, 57),
        (np.float64(5), 40, 2),
    ],
)
def test_first_places(p: float, n: int, k: int) -> None:
    assert first_places(p, n) == k


def test_recall_by_hand() -> None:
    """Seven tiles: the first 5 % is 1 place, 15 % are 2, 50 % are 4."""
    ranks = np.array([1, 1, 2, 3, 4, 5, 7])
    found = recall_of(ranks, (5, 15, 50, 100), n_bootstrap=10, rng=np.random.default_rng(0))
    assert [each.recall for each in found] == pytest.approx([2 / 7, 3 / 7, 5 / 7, 1])
    assert [each.chance for each in found] == pytest.approx([1 / 7, 2 / 7, 4 / 7, 1])
    assert [each.n for each in found] == [7] * 4
    assert found[-1].low == found[-1].high == 1


def test_chance_is_what_permutations_give() -> None:
    one, other = draw(33, 4)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        ranks, _ = partner_ranks(one, other[rng.permutation(33)])
        found.append([each.recall for each in recall_of(ranks, (5, 10, 40), n_bootstrap=1, rng=rng)])
    chances = [each.chance for each in recall_of(ranks, (5, 10, 40), n_bootstrap=1, rng=rng)]
    np.testing.assert_allclose(np.mean(found, axis=0), chances, atol=0.015)
    assert chances == [2 / 33, 4 / 33, 14 / 33]  # not 5, 10 and 40 %


def test_interval_is_that_of_resampled_queries() -> None:
    """The binomial draw is the bootstrap that it stands for."""
    ranks = np.random.default_rng(0).integers(1, 155, 154)
    (found,) = recall_of(ranks, (30,), n_bootstrap=20_000, rng=np.random.default_rng(1))
    k, rng = first_places(30, 154), np.random.default_rng(2)
    resampled = [(rng.choice(ranks, 154) <= k).mean() for _ in range(20_000)]
    np.testing.assert_allclose([found.low, found.high], np.percentile(resampled, [2.5, 97.5]), atol=1 / 154)


def test_intervals_cover() -> None:
    """Of draws with a known recall, about 95 % of the intervals hold it."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        ranks = np.where(rng.random(200) < 0.6, 1, 200)
        (found,) = recall_of(ranks, (5,), n_bootstrap=500, rng=rng)
        held += found.low <= 0.6 <= found.high
    assert 0.91 < held / 300 < 0.99


def test_nearest() -> None:
    candidates = np.array([[0, 2.0], [5, 5], [1, 0], [3, 3]])
    rows, similarities = nearest(np.array([1.0, 1.0]), candidates, 3)
    assert sorted(rows[:2]) == [1, 3]
    assert rows[2] in (0, 2)
    np.testing.assert_allclose(similarities, [1, 1, 0.5**0.5], rtol=1e-6)
    assert len(nearest(np.array([1.0, 1.0]), candidates, 9)[0]) == 4


def test_unit_rows() -> None:
    np.testing.assert_allclose(unit_rows(np.array([[3, 4], [0, 0]])), [[0.6, 0.8], [0, 0]], rtol=1e-6)
