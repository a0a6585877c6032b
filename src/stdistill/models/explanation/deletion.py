"""Whether attributions can be believed: how soon the niche goes when those that add most are left out first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from stdistill._support.arrays import Float64s
from stdistill.models.explanation.question import Question

N_STEPS = 20
N_ORDERS = 5
"""Random orders to compare with (our choice)."""


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
    n_removed = np.round(removed_shares() * n_tokens)
    removed = orders.argsort(axis=1)[:, None, :] < n_removed[:, None]
    curves = expit(question.without(removed.reshape(-1, n_tokens)).reshape(len(orders), -1))
    return Deletion(curves[0], curves[1:])


def area(curves: Float64s) -> Float64s:
    """Mean height (…,) of curves (…, N_STEPS + 1)."""
    areas: Float64s = np.trapezoid(curves, dx=1 / N_STEPS, axis=-1)
    return areas
