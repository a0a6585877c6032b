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
N_ORDERS = 25
"""Of Shapley values: captum's default."""
N_STEPS, MOST_STEPS = 20, 640
COMPLETE = 0.02
"""Steps of an integral are doubled until what is added sums to the whole but for this share (our choice: 20 steps are
enough for most students, and others, whose answer jumps somewhere on the way, need hundreds)."""


class Attribution(NamedTuple):
    """What each token of a cell adds, in log-odds of its niche."""

    values: Float64s
    """(n_tokens,)."""
    baseline: float
    """The answer where nothing is added yet."""


def leave_one_out(question: Question, n_samples: int | None, seed: int) -> Attribution:
    """How much less sure the model is without each token; the others are there."""
    # One number for each token: each is a group of its own.
    there = torch.ones(1, len(question))
    values = FeatureAblation(question.if_present).attribute(there, perturbations_per_eval=question.at_once)
    return Attribution(_as_array(values), question.nothing)


def shapley(question: Question, n_samples: int | None, seed: int) -> Attribution:
    """How much surer the model gets when each token comes, on average over random orders in which they come."""
    there = torch.ones(1, len(question))
    with forked_rng():
        torch.default_generator.manual_seed(seed)
        values = ShapleyValueSampling(question.if_present).attribute(
            there, n_samples=n_samples or N_ORDERS, perturbations_per_eval=question.at_once
        )
    return Attribution(_as_array(values), question.nothing)


def integrated_gradients(question: Question, n_samples: int | None, seed: int) -> Attribution:
    """How much surer the model gets on the way from average cells of the training to these, by each one's features."""
    rows = question.neighborhoods.features[question.tokens.cells]
    features = (rows if isinstance(rows, Tensor) else torch.from_numpy(np.asarray(rows))).to(question.device).float()
    average = question.network.mean.expand_as(features)
    with torch.no_grad():
        baseline = float(question.if_like(average[None]))
    whole = question.answer - baseline
    n_steps = n_samples or N_STEPS
    while True:
        values = _as_array(
            IntegratedGradients(question.if_like)
            .attribute(features[None], average[None], n_steps=n_steps, internal_batch_size=question.at_once)
            .sum(dim=-1)
        )
        is_complete = abs(values.sum() - whole) <= COMPLETE * max(1.0, abs(whole))
        if n_samples is not None or is_complete or n_steps >= MOST_STEPS:
            return Attribution(values, baseline)
        n_steps *= 2


METHODS: Mapping[Method, Callable[[Question, int | None, int], Attribution]] = {
    "leave_one_out": leave_one_out,
    "shapley": shapley,
    "integrated_gradients": integrated_gradients,
}


def _as_array(values: Tensor) -> Float64s:
    array: Float64s = values.detach().cpu().double().numpy().ravel()
    return array
