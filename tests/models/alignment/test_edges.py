"""Weights of edges: what is drawn, and what is not."""

from __future__ import annotations

import numpy as np
import torch

from stdistill.models.alignment.edges import EdgeWeights, draw


def test_the_probability_at_inference() -> None:
    torch.manual_seed(0)
    weigh = EdgeWeights(6, 0.5).double().eval()
    cells = torch.randn(5, 6, dtype=torch.float64)
    pairs = torch.tensor([[0, 1, 4], [2, 0, 3]])
    found = weigh(cells, pairs)
    for (i, j), weight in zip(pairs.T.tolist(), found, strict=True):
        both = torch.cat([cells[i], cells[j]])
        own, other = weigh.ends.weight.chunk(2)
        matrix, bias = torch.cat([own, other], dim=1), sum(weigh.ends.bias.chunk(2))
        hidden = matrix @ both + bias
        logit = weigh.score.weight[0] @ (hidden * torch.sigmoid(hidden)) + weigh.score.bias[0]
        torch.testing.assert_close(weight, 1 / (1 + torch.exp(-logit)))
    torch.testing.assert_close(weigh(cells, pairs), found)


def test_draws_are_a_gumbel_softmax_of_two_classes() -> None:
    """Against the definition with two Gumbel variables: the same distribution, quantile by quantile."""
    torch.manual_seed(0)
    n, temperature, probability = 200_000, 0.5, 0.3
    found = draw(torch.full((n,), probability, dtype=torch.float64).logit(), temperature).numpy()
    gumbel = np.random.default_rng(0).gumbel(size=(2, n))
    likely = np.log([[probability], [1 - probability]])
    edge, none = np.exp((likely + gumbel) / temperature)
    expected = edge / (edge + none)
    steps = np.linspace(0.02, 0.98, 25)
    np.testing.assert_allclose(np.quantile(found, steps), np.quantile(expected, steps), atol=0.01)
    np.testing.assert_allclose((found > 0.5).mean(), probability, atol=0.005)  # as often as the edge is likely


def test_draws_pass_gradients_and_are_never_infinite() -> None:
    logit = torch.tensor([-200.0, 0.0, 200.0], requires_grad=True)
    for _ in range(200):
        weights = draw(logit, 0.1)
        assert torch.isfinite(weights).all()
        assert ((weights >= 0) & (weights <= 1)).all()
    draw(logit, 1.0).sum().backward()
    assert logit.grad is not None
    assert torch.isfinite(logit.grad).all()


def test_drawn_in_training_alone() -> None:
    weigh = EdgeWeights(4, 0.5)
    cells, pairs = torch.randn(4, 4), torch.tensor([[0, 1], [2, 3]])
    assert not torch.equal(weigh.train()(cells, pairs), weigh(cells, pairs))
    assert torch.equal(weigh.eval()(cells, pairs), weigh(cells, pairs))
