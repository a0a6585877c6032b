from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch

from stdistill.models.explanation import question as module
from stdistill.models.explanation.attribution import METHODS
from stdistill.models.explanation.question import Question

Ask = Callable[..., Question]


@pytest.mark.parametrize("method", METHODS)
def test_a_sum_is_its_parts(ask: Ask, method: str) -> None:
    values, baseline = METHODS[method](ask([[1], [-2], [5], [0.5]], torch.sum), 8, 0)
    np.testing.assert_allclose(values, [1, -2, 5, 0.5], atol=1e-5)
    assert baseline == 0


@pytest.mark.parametrize("method", METHODS)
def test_several_features_are_one_cell(ask: Ask, method: str) -> None:
    values, _ = METHODS[method](ask([[1, 2, 3], [0, 0, 1]], torch.sum), 8, 0)
    np.testing.assert_allclose(values, [6, 1], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_alone(ask: Ask, method: str) -> None:
    values, _ = METHODS[method](ask([[3.0]], torch.sum), 8, 0)
    np.testing.assert_allclose(values, [3], atol=1e-5)


def test_of_two_that_say_the_same_none_is_needed(ask: Ask) -> None:
    """The known limit of leaving one out, and what Shapley values are for."""
    asked = ask([[2], [2], [0.5]], lambda seen: torch.cat([seen[:, 0], torch.zeros(1)]).max())
    left_out, _ = METHODS["leave_one_out"](asked, 1, 0)
    np.testing.assert_allclose(left_out, 0, atol=1e-6)
    shared, _ = METHODS["shapley"](asked, 400, 0)
    gains = np.zeros(3)
    for order in permutations(range(3)):
        for place, cell in enumerate(order):
            gains[cell] += max([0.0, *np.array([2, 2, 0.5])[list(order[: place + 1])]])
            gains[cell] -= max([0.0, *np.array([2, 2, 0.5])[list(order[:place])]])
    np.testing.assert_allclose(shared, gains / 6, atol=0.1)
    assert shared.sum() == pytest.approx(2, abs=1e-5)


def test_shapley_sums_up_and_repeats(ask: Ask) -> None:
    asked = ask(np.random.default_rng(0).normal(size=(6, 1)), lambda seen: (seen.sum() ** 3).sin())
    one, baseline = METHODS["shapley"](asked, 5, 3)
    assert one.sum() == pytest.approx(asked.answer - baseline, abs=1e-5)
    state = torch.get_rng_state()
    again, _ = METHODS["shapley"](asked, 5, 3)
    assert one.tobytes() == again.tobytes()
    assert torch.equal(state, torch.get_rng_state())
    assert not np.allclose(one, METHODS["shapley"](asked, 5, 4)[0])


def test_gradients_along_the_way(ask: Ask) -> None:
    """Of the product of two features, half each (by hand)."""
    asked = ask([[2.0], [3.0]], lambda seen: seen[:, 0].prod())
    values, baseline = METHODS["integrated_gradients"](asked, 50, 0)
    np.testing.assert_allclose(values, [3, 3], atol=1e-3)
    assert baseline == 0


@pytest.mark.parametrize("method", METHODS)
def test_in_pieces(ask: Ask, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ask(np.random.default_rng(0).normal(size=(7, 2)), lambda seen: (seen.sum() + 1) ** 2 / 9)
    whole, _ = METHODS[method](asked, 6, 1)
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 14)
    pieces, _ = METHODS[method](asked, 6, 1)
    np.testing.assert_allclose(whole, pieces, atol=1e-5)
