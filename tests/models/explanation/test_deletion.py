from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import expit

from stdistill.models.explanation.deletion import N_ORDERS, N_STEPS, area, beaten, delete, removed_shares
from stdistill.models.explanation.question import Question

Ask = Callable[..., Question]


def test_by_hand(ask: Ask) -> None:
    """As many tokens as steps: one goes at each."""
    values = np.arange(N_STEPS) / N_STEPS
    found = delete(ask(values[:, None], torch.sum), values, 0)
    left = np.r_[np.cumsum(values)[::-1], 0]
    np.testing.assert_allclose(found.curve, expit(left), atol=1e-6)
    assert found.random.shape == (N_ORDERS, N_STEPS + 1)
    np.testing.assert_allclose(found.random[:, [0, -1]], expit([[left[0], 0]] * N_ORDERS), atol=1e-6)
    assert (found.random >= found.curve - 1e-6).all()
    assert (found.random.mean(axis=0) > found.curve + 1e-6)[1:-1].all()


def test_fewer_cells_than_steps(ask: Ask) -> None:
    found = delete(ask([[1], [3], [2]], torch.sum), np.array([1.0, 3.0, 2.0]), 0)
    removed = np.round(removed_shares() * 3).astype(int)
    np.testing.assert_allclose(found.curve, expit(np.array([6, 3, 1, 0])[removed]), atol=1e-6)
    alone = delete(ask([[1]], torch.sum), np.array([1.0]), 0)
    assert len(alone.curve) == N_STEPS + 1


def test_order_of_equals_is_that_of_the_table(ask: Ask) -> None:
    asked = ask([[1], [1], [4]], torch.sum)
    np.testing.assert_array_equal(delete(asked, np.zeros(3), 0).curve, delete(asked, np.array([3.0, 2, 1]), 0).curve)


def test_seed(ask: Ask) -> None:
    asked = ask(np.arange(9)[:, None] / 9, torch.sum)
    one, again, other = (delete(asked, np.arange(9.0), seed).random for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes()
    assert not np.array_equal(one, other)


def test_area() -> None:
    np.testing.assert_allclose(area(np.ones(N_STEPS + 1)), 1)
    np.testing.assert_allclose(area(np.stack([removed_shares(), 1 - removed_shares()])), 0.5)


def test_only_what_lies_clearly_higher_is_beaten() -> None:
    """Of a cell whose niche is sure until the last cells go, hair's breadths are no evidence."""
    curves = np.stack([np.full(N_STEPS + 1, 0.5), np.full(N_STEPS + 1, 0.98)])
    heights = np.array([[0.4, 0.5005, 0.52, 0.6, 0.9], [0.9801, 0.9805, 0.9809, 0.98, 0.97]])
    np.testing.assert_allclose(beaten(curves, np.repeat(heights[..., None], N_STEPS + 1, axis=2)), [0.6, 0])
