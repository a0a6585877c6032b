from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stdistill.models.explanation import question as module
from stdistill.models.explanation.question import Question
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.network import NicheNetwork

Ask = Callable[..., Question]


def trained(k: int = 3) -> NicheNetwork:
    torch.manual_seed(0)
    size = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "dropout": 0.0}
    return NicheNetwork(4, k, **size, head="linear").eval().requires_grad_(False)


def around(features: np.ndarray, seed: int = 0) -> Neighborhoods:
    n = len(features)
    indices = np.concatenate([np.delete(np.arange(n), cell) for cell in range(n)])
    centers = np.random.default_rng(seed).uniform(0, 10, (n, 2))
    return Neighborhoods(features, np.arange(n + 1) * (n - 1), indices, centers, 20.0)


def test_log_odds(ask: Ask) -> None:
    asked = ask([[1], [2], [4]], torch.sum)
    assert (asked.niche, asked.answer, len(asked)) == (0, 7, 3)
    presence = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]])
    assert asked.if_present(presence).tolist() == [7, 5, 4, 0]
    assert asked.without(presence.numpy() == 0).tolist() == [7, 5, 4, 0]
    assert asked.if_like(torch.tensor([[[1.0], [1.0], [1.0]], [[0.0], [-1.0], [0.0]]])).tolist() == [3, -1]
    assert ask([[1], [2], [4]], torch.sum, temperature=2).answer == 3.5


def test_the_niche_is_the_likeliest(ask: Ask) -> None:
    asked = ask([[-1], [-2]], torch.sum)
    assert (asked.niche, asked.answer) == (1, 3)


def test_no_token_at_all(ask: Ask) -> None:
    assert ask([[1], [2]], torch.sum).if_present(torch.zeros(2, 2)).tolist() == [0, 0]


def test_what_is_left_out_is_not_there() -> None:
    """The same as for a slide without the cells; their features are not set to 0."""
    features = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    network, full = trained(), around(features)
    asked = Question(network, full, 0, 1.0, torch.device("cpu"))
    for left_out in ([3], [0], [1, 2, 5, 8], [0, 1, 2, 3, 4, 5, 6, 7]):
        poorer = features.copy()
        poorer[left_out] = np.nan
        hoods = around(poorer)
        logits = network(hoods.batch(hoods.tokens(np.array([0]))))[0].double()
        others = logits[torch.arange(3) != asked.niche]
        removed = np.isin(asked.tokens.cells, left_out)[None]
        expected = float(logits[asked.niche] - others.logsumexp(0))
        assert asked.without(removed)[0] == pytest.approx(expected, abs=1e-6)
        zeroed = torch.from_numpy(np.where(removed[0, :, None], 0, features[asked.tokens.cells]))
        assert float(asked.if_like(zeroed[None])) != pytest.approx(expected, abs=1e-3)


def test_own_features_in_their_places() -> None:
    features = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    asked = Question(trained(), around(features), 4, 1.0, torch.device("cpu"))
    same = torch.from_numpy(features[asked.tokens.cells])
    assert float(asked.if_like(same[None])) == pytest.approx(asked.answer, abs=1e-6)


def test_memory_is_bounded(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 50)
    asked = ask(np.arange(10)[:, None], torch.sum)
    assert asked.at_once == 5
    removed = np.random.default_rng(0).random((33, 10)) < 0.5
    np.testing.assert_allclose(asked.without(removed), (~removed) @ np.arange(10.0))
    assert max(asked.network.n_read) <= 50
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 3)
    assert asked.at_once == 1
