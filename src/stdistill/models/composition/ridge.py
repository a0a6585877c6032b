"""Ridge regression of any number of rows, of which a few thousand are in memory at a time.

Rows are taken up in the triangular factor R of their QR decomposition, which has as many rows as there are columns, or
fewer, and gives the same sums of squares as all of them. Their first column is 1, so that all but the first row of R is
the factor of what is left when the means are taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from stdistill._support.arrays import Float64s, Integers

Read = Callable[[Integers], tuple[Float64s, Float64s]]
"""Returns features (m, d) and targets (m, t) of some rows, on the scale of the training."""

PENALTIES = np.logspace(0, 6, 13)
"""α of the candidates (our choice)."""
ROWS_AT_ONCE = 8192


class Ridge(NamedTuple):
    """A linear regression."""

    weights: Float64s
    """(d, t)."""
    intercept: Float64s
    """(t,)."""
    penalty: float


def fit_ridge(read: Read, rows: Integers, folds: Sequence[tuple[Integers, Integers]]) -> Ridge:
    """Fit the penalty that predicts held-out rows best, then all rows with it.

    Parameters
    ----------
    read
        Gives the values of rows.
    rows
        To fit.
    folds
        Rows to fit and rows to judge a penalty by: its mean squared error over types and folds counts.
    """
    n_features = read(rows[:1])[0].shape[1]
    errors = np.zeros(len(PENALTIES))
    parts = [_factor(read, held_out) for _, held_out in folds]
    is_divided = len(folds) > 1 and all(len(one) + len(other) == len(rows) for one, other in folds)
    is_divided &= sum(len(held_out) for _, held_out in folds) == len(rows)
    for number, (fitting, held_out) in enumerate(folds):
        others = parts[:number] + parts[number + 1 :]  # which are all other rows where the folds divide these
        fits = _solve(_merge(others) if is_divided else _factor(read, fitting), n_features, PENALTIES)
        errors += [_squared_error(ridge, parts[number]) / len(held_out) for ridge in fits]
    best = PENALTIES[[int(errors.argmin())]]
    return next(_solve(_merge(parts) if is_divided else _factor(read, rows), n_features, best))


def _factor(read: Read, rows: Integers) -> Float64s:
    """Return R of the rows [1, features, targets]."""
    factor: Float64s | None = None
    for start in range(0, len(rows), ROWS_AT_ONCE):
        features, targets = read(rows[start : start + ROWS_AT_ONCE])
        block = np.hstack([np.ones((len(features), 1)), features, targets])
        factor = _merge([block] if factor is None else [factor, block])
    if factor is None:
        msg = "There are no rows to fit a regression to."
        raise ValueError(msg)
    return factor


def _merge(factors: Sequence[Float64s]) -> Float64s:
    """Return the factor of the rows of several."""
    return np.asarray(np.linalg.qr(np.vstack(factors), mode="r"))


def _solve(factor: Float64s, n_features: int, penalties: Float64s) -> Iterator[Ridge]:
    """Yield the regression of each penalty; the intercept is not penalised."""
    mean_x, mean_y = np.split(factor[0, 1:] / factor[0, 0], [n_features])
    x, y = np.split(factor[1:, 1:], [n_features], axis=1)
    values, axes = np.linalg.eigh(x @ x.T)
    along = axes.T @ y
    for penalty in penalties:
        weights = x.T @ (axes @ (along / (values.clip(min=0)[:, None] + penalty)))
        yield Ridge(weights, mean_y - mean_x @ weights, float(penalty))


def _squared_error(ridge: Ridge, factor: Float64s) -> float:
    """Sum of squared errors over the rows of a factor, and over targets."""
    left = np.vstack([-ridge.intercept, -ridge.weights, np.eye(len(ridge.intercept))])
    return float(((factor @ left) ** 2).sum())
