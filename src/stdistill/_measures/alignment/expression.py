"""Expression of tiles on one scale, as far as it can be told from training tiles alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from stdistill._support.arrays import Float64s, Integers, Rows


class ExpressionComponents(NamedTuple):
    """Principal axes of expression."""

    mean: Float64s
    """(genes,)"""
    axes: Float64s
    """(genes, components)"""

    def project(self, expression: csr_matrix) -> Float64s:
        """Return the components (n, components) of tiles; expression stays sparse."""
        projected: Float64s = expression @ self.axes - self.mean @ self.axes
        return projected


def log_expression(counts: csr_matrix, training: Integers) -> csr_matrix:
    """Scale summed counts (n, genes) to the median total of the training tiles, and take log(1 + x).

    A tile without counts stays without. Zeros stay zeros, so that nothing is made dense.
    """
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    counted = totals[training][totals[training] > 0]
    target = float(np.median(counted)) if len(counted) else 1.0
    scaled = csr_matrix(counts, dtype=np.float64, copy=True)
    scaled.data *= np.repeat(target / np.where(totals > 0, totals, 1), np.diff(scaled.indptr))
    np.log1p(scaled.data, out=scaled.data)
    return scaled


def most_variable(expression: csr_matrix, training: Integers, n: int) -> Rows:
    """Return the columns of the `n` genes that vary most over the training tiles, in the order of columns.

    A gene that does not vary is left out. Of equal ones the first are taken.
    """
    some = expression[training]
    mean = np.asarray(some.mean(axis=0)).ravel()
    variance = np.asarray(some.multiply(some).mean(axis=0)).ravel() - mean**2
    order = np.argsort(-variance, kind="stable")[:n]
    return np.sort(order[variance[order] > 1e-12])


def fit_expression_components(expression: csr_matrix, training: Integers, n: int) -> ExpressionComponents:
    """Find at most `n` principal axes of expression over the training tiles."""
    from sklearn.decomposition import PCA

    some = expression[training]
    n_components = min(n, some.shape[0] - 1, some.shape[1] - 1)
    if n_components < 1:
        msg = (
            f"Expression of {some.shape[0]} training tiles and {some.shape[1]} genes has no axes; it takes two of each."
        )
        raise ValueError(msg)
    pca = PCA(n_components, svd_solver="arpack", random_state=0).fit(some)
    return ExpressionComponents(np.asarray(pca.mean_), np.asarray(pca.components_).T)
