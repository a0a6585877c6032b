"""Principal components of features that are too many to be copied."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Float64s, Integers

CHUNK = 20_000
"""Rows that are taken into memory as float32 at a time: 120 MB of 1,536 features."""


class PrincipalComponents(NamedTuple):
    """A centred projection."""

    mean: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float32]
    """(d, n_components)."""

    def project(self, features: npt.NDArray[Any], rows: Integers) -> npt.NDArray[np.float32]:
        """Project some rows of (n, d) features, chunk by chunk."""
        projected = np.empty((len(rows), self.axes.shape[1]), dtype=np.float32)
        for start in range(0, len(rows), CHUNK):
            chunk = features[rows[start : start + CHUNK]].astype(np.float32)
            projected[start : start + CHUNK] = (chunk - self.mean) @ self.axes
        return projected


def fit_components(features: npt.NDArray[Any], rows: Integers, n_components: int) -> PrincipalComponents:
    """Find the components of some rows of (n, d) features from their covariance, read chunk by chunk."""
    mean, covariance = mean_and_covariance(features, rows)
    axes, _ = principal_axes(covariance)
    return PrincipalComponents(mean.astype(np.float32), axes[:, :n_components].astype(np.float32))


def mean_and_covariance(features: npt.NDArray[Any], rows: Integers) -> tuple[Float64s, Float64s]:
    """Mean (d,) and covariance (d, d) of some rows of (n, d) features, read chunk by chunk."""
    d = features.shape[1]
    # Sums of what is near 0 lose no digits: the mean of the first chunk stands in for the mean.
    shift = features[rows[:CHUNK]].astype(np.float32).mean(axis=0)
    total, products = np.zeros(d), np.zeros((d, d))
    for start in range(0, len(rows), CHUNK):
        chunk = features[rows[start : start + CHUNK]].astype(np.float32) - shift
        total += chunk.sum(axis=0, dtype=np.float64)
        products += chunk.T @ chunk
    offset = total / len(rows)
    return shift + offset, products / len(rows) - np.outer(offset, offset)


def principal_axes(covariance: Float64s) -> tuple[Float64s, Float64s]:
    """Axes (d, d) of a covariance and the variances (d,) along them, the largest first.

    Each axis points to where its largest entry is positive, so that the result does not depend on the solver.
    """
    variances, axes = np.linalg.eigh(covariance)
    axes = axes[:, ::-1]
    largest = np.abs(axes).argmax(axis=0)
    return axes * np.sign(axes[largest, np.arange(axes.shape[1])]), variances[::-1]
