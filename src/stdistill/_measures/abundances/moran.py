"""Which types lie together: the bivariate Moran's R of all pairs of types at once, and what chance would give.

Weights are symmetric and scaled such that all of them sum to n. With z the values by their mean and population standard
deviation, R of x and y is z_x' W z_y / n, the sum over all pairs of rows of how much they count times how x is at the
one and y at the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, norm

from stdistill._support.arrays import Float64s, Floats

CONSTANT = 1e-6
"""A type whose standard deviation is no larger a share of its mean varies by the rounding of float32 alone."""


@dataclass(frozen=True)
class Colocalization:
    """What :func:`stdistill.tl.colocalization` returns; the frames are types × types."""

    r: pd.DataFrame
    """Bivariate Moran's R."""
    z: pd.DataFrame
    """R in standard deviations of what chance gives; the diagonal is missing."""
    p: pd.DataFrame
    """Two-sided, of the normal distribution."""
    q: pd.DataFrame
    """False discovery rate of Benjamini and Hochberg over the pairs."""
    length_um: float
    """Length of the weights, in µm."""
    cutoff: float
    """Below which weights are 0."""
    n_rows: int
    """Rows that were measured."""


def standardise(values: Floats) -> Float64s:
    """Centre the columns (n, types) and divide by their population standard deviations; NaN where one is constant."""
    z: Float64s = values.astype(np.float64)
    means = z.mean(axis=0)
    z -= means
    sd = np.sqrt(np.einsum("nt,nt->t", z, z) / len(z))
    sd[sd <= CONSTANT * np.abs(means)] = np.nan
    z /= sd
    return z


def bivariate_moran(z: Float64s, lagged: Float64s, totals: Float64s) -> Float64s:
    """Compute R of all pairs of types.

    Parameters
    ----------
    z
        What `standardise` returned (n, types).
    lagged
        W @ z, with symmetric weights of any scale (n, types).
    totals
        Sums of the rows of W (n,), of which one at least is above 0.
    """
    r = z.T @ lagged / totals.sum()
    symmetric: Float64s = (r + r.T) / 2  # but for rounding it is
    return symmetric


def null_sd(totals: Float64s, squares: Float64s) -> float:
    """Compute the standard deviation of R when both types are shuffled over the rows, each on its own.

    Parameters
    ----------
    totals, squares
        Sums (n,) of the rows of W, which is symmetric, and of their squares; n is 2 or more.
    """
    n = len(totals)
    scale = n / totals.sum()
    variance = (scale**2 * (squares.sum() - 2 / n * (totals**2).sum()) + 1) / (n - 1) ** 2
    return float(np.sqrt(max(variance, 0.0)))


def significance(r: Float64s, sd: float) -> tuple[Float64s, Float64s, Float64s]:
    """Compute z, two-sided p and false discovery rate of each pair; NaN on the diagonal and where R is.

    The rate is over the pairs, each once: R of x and y is that of y and x.
    """
    z = r / sd if sd > 0 else np.full(r.shape, np.nan)
    np.fill_diagonal(z, np.nan)
    p: Float64s = 2 * norm.sf(np.abs(z))
    q = np.full(r.shape, np.nan)
    pairs = np.triu(np.isfinite(p), k=1)
    if pairs.any():
        q[pairs] = false_discovery_control(p[pairs])
    return z, p, np.fmax(q, q.T)
