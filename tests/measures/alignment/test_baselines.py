from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.cross_decomposition import CCA

from stdistill._measures.alignment.baselines import (
    WEIGHT,
    canonical_variates,
    expression_components,
    he_components,
    project_by_cca,
    project_by_ridge,
)
from stdistill._measures.alignment.recall import partner_ranks


def two_views(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 6) and values (n, 4) that have three causes in common."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(n, 3)) * [2, 1, 0.6]
    x = causes @ rng.normal(size=(3, 6)) + 0.3 * rng.normal(size=(n, 6))
    y = causes @ rng.normal(size=(3, 4)) + 0.3 * rng.normal(size=(n, 4))
    return x + 5, y - 3


def tiles(n: int = 300, seed: int = 0) -> tuple[np.ndarray, csr_matrix, np.ndarray]:
    """Features, log expression and numbers of cells of tiles that have causes in common."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(n, 8))
    features = causes @ rng.normal(size=(8, 50)) + rng.normal(size=(n, 50))
    expression = np.log1p(rng.poisson(np.exp(1 + 0.5 * causes @ rng.normal(size=(8, 40)))))
    n_cells = np.rint(np.exp(4 + 0.3 * causes[:, 0])).astype(int)
    return features.astype(np.float16), csr_matrix(expression), n_cells


def test_canonical_variates_are_those_of_scikit_learn() -> None:
    x, y = two_views()
    training = np.arange(300)
    found = canonical_variates(x, y, training, regularization=0)
    theirs = CCA(3, max_iter=5000, tol=1e-12).fit(x[:300], y[:300]).transform(x, y)
    for ours, other in zip(found, theirs, strict=True):
        correlations = np.abs(np.corrcoef(ours[:, :3].T, other.T)[:3, 3:])
        np.testing.assert_allclose(np.diag(correlations), 1, atol=1e-5)
    he, expression = found.he[training], found.expression[training]
    rho = np.array([np.corrcoef(he[:, i], expression[:, i])[0, 1] for i in range(4)])
    assert (np.diff(rho) < 0).all()
    assert rho[2] > 0.7
    for part in found:  # not correlated, and as large as they tell the other
        np.testing.assert_allclose(part[training].T @ part[training] / 300, np.diag(rho ** (2 * WEIGHT)), atol=1e-9)
    np.testing.assert_allclose(he.T @ expression / 300, np.diag(rho ** (2 * WEIGHT + 1)), atol=1e-9)


def test_regularization_holds_directions_that_hardly_vary() -> None:
    """A value that hardly varies, and by chance goes with a feature, takes part when nothing is added."""
    x, y = two_views(60)
    noise = np.random.default_rng(1).normal(size=60)
    x, y = np.c_[x, 1e-4 * noise], np.c_[y, 1e-4 * noise]
    wild = canonical_variates(x, y, np.arange(60), regularization=0)
    held = canonical_variates(x, y, np.arange(60), regularization=0.1)
    assert np.abs(np.corrcoef(wild.he[:, 0], noise)[0, 1]) > 0.99
    assert np.abs(np.corrcoef(held.he[:, :3].T, noise)[-1, :3]).max() < 0.5


def test_scale_and_origin_say_nothing() -> None:
    x, y = two_views()
    one = canonical_variates(x, y, np.arange(200), regularization=0.1)
    other = canonical_variates(7 * x + 3, 0.1 * y - 1, np.arange(200), regularization=0.1)
    np.testing.assert_allclose(np.abs(other.he), np.abs(one.he), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("project", [project_by_ridge, project_by_cca])
def test_partners_are_found_in_tiles_that_were_not_fitted(project) -> None:
    features, expression, n_cells = tiles()
    cells = expression_components(expression, n_cells, np.arange(200))
    found = project(features, cells, np.arange(200))
    assert found.he.shape == found.expression.shape == (300, 33)
    for ranks in partner_ranks(found.he[200:], found.expression[200:]):
        assert (ranks <= 10).mean() > 0.6  # chance: 0.1
    changed = features.copy()
    changed[200:] = 0
    np.testing.assert_allclose(project(changed, cells, np.arange(200)).he[:200], found.he[:200], rtol=1e-6)


@pytest.mark.parametrize("project", [project_by_ridge, project_by_cca])
def test_few_tiles_and_features_that_do_not_vary(project) -> None:
    features, expression, n_cells = tiles(12)
    features[:, :5] = 2
    found = project(features, expression_components(expression, n_cells, np.arange(4)), np.arange(4))
    assert found.he.shape[1] <= 4
    assert np.isfinite(found.he).all()
    assert np.isfinite(found.expression).all()


def test_as_many_components_as_there_can_be() -> None:
    features, expression, n_cells = tiles()
    for n, ours, theirs in ((300, 50, 32), (10, 9, 9), (25, 24, 24)):
        assert he_components(features, np.arange(n)).shape == (300, ours)
        assert expression_components(expression, n_cells, np.arange(n)).shape == (300, theirs + 1)


def test_the_number_of_cells_counts_as_much_as_the_first_component() -> None:
    _, expression, n_cells = tiles()
    training = np.arange(200)
    found = expression_components(expression, n_cells, training)
    assert found[training, -1].std() == pytest.approx(found[training, 0].std())
    assert np.corrcoef(found[:, -1], np.log(n_cells))[0, 1] == pytest.approx(1)
    assert (expression_components(expression, np.full(300, 20), training)[:, -1] == 0).all()
