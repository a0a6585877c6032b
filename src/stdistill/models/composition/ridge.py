"""Ridge regression from sums over rows: as exact as with all rows in memory, which it never has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Integers

Matrix = npt.NDArray[np.float64]
Read = Callable[[Integers], tuple[Matrix, Matrix]]
"""Returns features (m, d) and targets (m, t) of some rows, on the scale of the training."""

PENALTIES = np.logspace(0, 6, 13)
"""α of the candidates (our choice)."""
ROWS_AT_ONCE = 4096


class Moments(NamedTuple):
    """Sums over rows of features x and targets y."""

    n: int
    x: Matrix
    y: Matrix
    xx: Matrix
    xy: Matrix
    yy: Matrix
    """(t,), of each target with itself."""


class Ridge(NamedTuple):
    """A linear regression."""

    weights: Matrix
    """(d, t)."""
    intercept: Matrix
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
    errors = np.zeros(len(PENALTIES))
    for fitting, held_out in folds:
        judge = _moments(read, held_out)
        errors += [_squared_error(ridge, judge) / judge.n for ridge in _solve(_moments(read, fitting), PENALTIES)]
    best = float(PENALTIES[int(errors.argmin())])
    return next(_solve(_moments(read, rows), [best]))


def _moments(read: Read, rows: Integers) -> Moments:
    parts = (read(rows[start : start + ROWS_AT_ONCE]) for start in range(0, len(rows), ROWS_AT_ONCE))
    each = (Moments(len(x), x.sum(axis=0), y.sum(axis=0), x.T @ x, x.T @ y, (y**2).sum(axis=0)) for x, y in parts)
    return reduce(_add, each)


def _add(one: Moments, other: Moments) -> Moments:
    return Moments(
        one.n + other.n, one.x + other.x, one.y + other.y, one.xx + other.xx, one.xy + other.xy, one.yy + other.yy
    )


def _solve(sums: Moments, penalties: Sequence[float] | Matrix) -> Iterator[Ridge]:
    """Yield the regression of each penalty; the intercept is not penalised."""
    mean_x, mean_y = sums.x / sums.n, sums.y / sums.n
    values, axes = np.linalg.eigh(sums.xx - sums.n * np.outer(mean_x, mean_x))
    along = axes.T @ (sums.xy - sums.n * np.outer(mean_x, mean_y))
    for penalty in penalties:
        weights = axes @ (along / (values.clip(min=0)[:, None] + penalty))
        yield Ridge(weights, mean_y - mean_x @ weights, float(penalty))


def _squared_error(ridge: Ridge, sums: Moments) -> float:
    """Sum of squared errors over rows and targets."""
    weights, intercept, _ = ridge
    errors = (
        sums.yy
        - 2 * ((weights * sums.xy).sum(axis=0) + intercept * sums.y)
        + (weights * (sums.xx @ weights)).sum(axis=0)
        + 2 * intercept * (sums.x @ weights)
        + sums.n * intercept**2
    )
    return float(errors.sum())
