"""Whether attributions can be believed: how soon the niche goes when those that add most are left out first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from stdistill._support.arrays import Float64s
from stdistill.models.explanation.question import Question

N_STEPS = 10
N_ORDERS = 5
"""Steps of a curve, and random orders to compare with (our choice)."""
CLEARLY = 0.001
"""Mean probability by which a curve has to lie below another one. Where a niche is sure until the last cells go, all
curves are one, and what lies between them says nothing (our choice)."""


class Deletion(NamedTuple):
    """Probability of the niche while tokens are left out one after the other."""

    curve: Float64s
    """(N_STEPS + 1,), from all tokens to none, those that add most first."""
    random: Float64s
    """(N_ORDERS, N_STEPS + 1), the same in random orders."""


def removed_shares() -> Float64s:
    """Shares of the tokens that are left out at each step."""
    shares: Float64s = np.linspace(0, 1, N_STEPS + 1)
    return shares


def delete(question: Question, values: Float64s, seed: int) -> Deletion:
    """Leave out tokens by how much they add (n_tokens,), and in random orders."""
    n_tokens = len(question)
    rng = np.random.default_rng(seed)
    orders = np.vstack([np.argsort(-values, kind="stable"), *(rng.permutation(n_tokens) for _ in range(N_ORDERS))])
    n_removed = np.round(removed_shares() * n_tokens)[1:-1]
    removed = orders.argsort(axis=1)[:, None, :] < n_removed[:, None]
    answers = np.empty((len(orders), N_STEPS + 1))
    answers[:, 0], answers[:, -1] = question.answer, question.nothing
    answers[:, 1:-1] = question.without(removed.reshape(-1, n_tokens)).reshape(len(orders), -1)
    curves = expit(answers)
    return Deletion(curves[0], curves[1:])


def area(curves: Float64s) -> Float64s:
    """Mean height (…,) of curves (…, N_STEPS + 1)."""
    areas: Float64s = (curves[..., 1:] + curves[..., :-1]).mean(axis=-1) / 2
    return areas


def beaten(curves: Float64s, random: Float64s) -> Float64s:
    """Share (…,) of random curves (…, N_ORDERS, N_STEPS + 1) that lie clearly above those (…, N_STEPS + 1)."""
    share: Float64s = (area(random) - area(curves)[..., None] > CLEARLY).mean(axis=-1)
    return share
