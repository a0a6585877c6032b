"""How much each token adds to the answer: captum's methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from captum.attr import FeatureAblation, IntegratedGradients, ShapleyValueSampling
from torch import Tensor

from stdistill._support.arrays import Float64s
from stdistill._training.devices import forked_rng
from stdistill.models.explanation.question import Question

Method = Literal["leave_one_out", "shapley", "integrated_gradients"]
N_SAMPLES: Mapping[str, int] = {"shapley": 25, "integrated_gradients": 50}
"""Permutations, and steps of the integral: captum's defaults."""


class Attribution(NamedTuple):
    """What each token of a cell adds, in log-odds of its niche."""

    values: Float64s
    """(n_tokens,)."""
    baseline: float
    """The answer where nothing is added yet."""


def leave_one_out(question: Question, n_samples: int, seed: int) -> Attribution:
    """How much less sure the model is without each token; the others are there."""
    # One number for each token: each is a group of its own.
    there = torch.ones(1, len(question))
    values = FeatureAblation(question.if_present).attribute(there, perturbations_per_eval=question.at_once)
    return Attribution(_as_array(values), _nothing(question))


def shapley(question: Question, n_samples: int, seed: int) -> Attribution:
    """How much surer the model gets when each token comes, on average over random orders in which they come."""
    there = torch.ones(1, len(question))
    with forked_rng():
        torch.default_generator.manual_seed(seed)
        values = ShapleyValueSampling(question.if_present).attribute(
            there, n_samples=n_samples, perturbations_per_eval=question.at_once
        )
    return Attribution(_as_array(values), _nothing(question))


def integrated_gradients(question: Question, n_samples: int, seed: int) -> Attribution:
    """How much surer the model gets on the way from average cells of the training to these, by each one's features."""
    rows = question.neighborhoods.features[question.tokens.cells]
    features = (rows if isinstance(rows, Tensor) else torch.from_numpy(np.asarray(rows))).to(question.device).float()
    average = question.network.mean.expand_as(features)
    values = IntegratedGradients(question.if_like).attribute(
        features[None], average[None], n_steps=n_samples, internal_batch_size=question.at_once
    )
    with torch.no_grad():
        baseline = float(question.if_like(average[None]))
    return Attribution(_as_array(values.sum(dim=-1)), baseline)


METHODS: Mapping[Method, Callable[[Question, int, int], Attribution]] = {
    "leave_one_out": leave_one_out,
    "shapley": shapley,
    "integrated_gradients": integrated_gradients,
}


def _nothing(question: Question) -> float:
    """Answer without any token."""
    return float(question.if_present(torch.zeros(1, len(question))))


def _as_array(values: Tensor) -> Float64s:
    array: Float64s = values.detach().cpu().double().numpy().ravel()
    return array
