"""What alignment must beat: ridge regression and canonical correlation on frozen features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular, svd
from scipy.sparse import csr_matrix

from stdistill._measures.alignment.expression import fit_expression_components
from stdistill._measures.alignment.probe import by_pieces, fit_ridge
from stdistill._support.arrays import Float64s, Floats, Integers

N_FEATURE_COMPONENTS = 64
N_EXPRESSION_COMPONENTS = 32
REGULARIZATION = 0.1
"""Added to the variances of the components, as a share of their mean."""
WEIGHT = 2
"""Of 0 to 3, what found most tiles of three folds of the training tiles of a simulated slide."""


class Projections(NamedTuple):
    """H&E and expression (n, d) of tiles in one space, where their cosine says how well they go together."""

    he: Floats
    expression: Floats


def expression_components(expression: csr_matrix, n_cells: Integers, training: Integers) -> Float64s:
    """Return what is known of the cells of each tile: principal components of expression, and how many cells there are.

    The logarithm of their number varies as much as the first component.

    Parameters
    ----------
    expression
        (n, genes), log-normalised.
    n_cells
        (n,), cells of each tile.
    training
        Rows to fit to.
    """
    components = fit_expression_components(expression, training, N_EXPRESSION_COMPONENTS).project(expression)
    size = np.log(np.maximum(n_cells, 1))
    size = size - size[training].mean()
    spread = size[training].std()
    largest = components[training].std(axis=0).max()
    return np.column_stack([components, size * (largest / spread if spread else 0.0)])


def project_by_ridge(features: Floats, cells: Float64s, training: Integers) -> Projections:
    """Predict what is known of the cells from features by ridge regression.

    Parameters
    ----------
    features
        (n, d) of all tiles.
    cells
        (n, q), see :func:`expression_components`.
    training
        Rows to fit to.
    """
    return Projections(fit_ridge(features[training], cells[training])(features), cells)


def project_by_cca(features: Floats, cells: Float64s, training: Integers) -> Projections:
    """Find directions of features and of cells that go together: canonical correlation of their components.

    Parameters
    ----------
    features
        (n, d) of all tiles.
    cells
        (n, q), see :func:`expression_components`.
    training
        Rows to fit to.
    """
    return canonical_variates(he_components(features, training), cells, training, regularization=REGULARIZATION)


def he_components(features: Floats, training: Integers) -> Float64s:
    """Return principal components of features, standardised on the training tiles, of all tiles."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n_components = min(N_FEATURE_COMPONENTS, len(training) - 1, features.shape[1])
    machine = make_pipeline(StandardScaler(), PCA(n_components, random_state=0))
    machine.fit(np.asarray(features[training], dtype=np.float64))
    return by_pieces(machine.transform, features)


def canonical_variates(x: Float64s, y: Float64s, training: Integers, *, regularization: float) -> Projections:
    """Project x (n, p) and y (n, q) on the directions that are correlated most over the training rows.

    Along each direction both are scaled to variance 1, and then by the correlation to the power of `WEIGHT`: it counts
    as far as one tells the other. Otherwise the many directions that go together by chance alone drown the few that
    matter.

    Parameters
    ----------
    x, y
        Of all rows.
    training
        Rows to fit to.
    regularization
        Added to both covariances, as a share of the mean variance: what hardly varies is not blown up.
    """
    x = x - x[training].mean(axis=0)
    y = y - y[training].mean(axis=0)
    roots = [_root(each[training], regularization) for each in (x, y)]
    cross = x[training].T @ y[training] / len(training)
    whitened = solve_triangular(roots[1], solve_triangular(roots[0], cross, lower=True).T, lower=True).T
    left, correlations, right = svd(whitened, full_matrices=False)
    weights = correlations**WEIGHT
    return Projections(
        x @ solve_triangular(roots[0], left * weights, lower=True, trans="T"),
        y @ solve_triangular(roots[1], right.T * weights, lower=True, trans="T"),
    )


def _root(centred: Float64s, regularization: float) -> Float64s:
    """Return the Cholesky factor of a covariance to which a share of its mean variance is added."""
    covariance = centred.T @ centred / len(centred)
    ridge = regularization * np.trace(covariance) / len(covariance)
    factor: Float64s = cholesky(covariance + ridge * np.eye(len(covariance)), lower=True)
    return factor
