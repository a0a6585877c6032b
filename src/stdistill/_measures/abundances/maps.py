"""How alike two maps of co-localisation are, row by row."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from stdistill._support.arrays import Float64s, Mask

Diagonal: TypeAlias = Literal["exclude", "one", "computed"]
ROUNDING = 1e-12
"""A row that varies by no larger a share of its length varies by rounding."""


class Likeness(NamedTuple):
    """Of each type (t,)."""

    cosine: Float64s
    correlation: Float64s
    undefined: Mask
    """Types that the truth has a row of, and the prediction has not."""


def compare_maps(truth: Float64s, predicted: Float64s, diagonal: Diagonal) -> Likeness:
    """Compare the rows of two maps (t, t).

    Pairs that are NaN in the truth are left out; those that are NaN only in the prediction count as 0 there. A row of
    the truth that says nothing is NaN; one that only the prediction says nothing of is 0.
    """
    itself = np.eye(len(truth), dtype=bool)
    known: Mask = np.any(~np.isnan(truth) & ~itself, axis=1)
    undefined: Mask = known & np.all(np.isnan(predicted) | itself, axis=1)
    kept = ~np.isnan(truth) & known[:, None]
    if diagonal == "exclude":
        kept &= ~itself
    elif diagonal == "one":
        truth, predicted = (np.where(itself, 1.0, each) for each in (truth, predicted))
        kept |= itself & known[:, None]
    a = np.where(kept, truth, 0.0)
    b = np.where(kept & ~np.isnan(predicted), predicted, 0.0)
    n = np.maximum(kept.sum(axis=1, keepdims=True), 1)
    centred = [np.where(kept, each - each.sum(axis=1, keepdims=True) / n, 0.0) for each in (a, b)]
    sizes = [ROUNDING * np.linalg.norm(each, axis=1) for each in (a, b)]
    nothing = np.zeros(len(a))
    return Likeness(_cosine(a, b, nothing, nothing), _cosine(*centred, *sizes), undefined)


def _cosine(a: Float64s, b: Float64s, least_a: Float64s, least_b: Float64s) -> Float64s:
    """Compute the cosine of each row; NaN where `a` is no longer than `least_a`, else 0 where `b` is not."""
    length_a, length_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    says_something = (length_a > least_a) & (length_b > least_b)
    cosine = np.where(length_a > least_a, 0.0, np.nan)
    np.divide((a * b).sum(axis=1), length_a * length_b, out=cosine, where=says_something)
    return cosine
