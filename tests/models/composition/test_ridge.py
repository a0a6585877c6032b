from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneGroupOut

from stdistill._support.arrays import Float64s, Integers
from stdistill.models.composition import ridge
from stdistill.models.composition.ridge import PENALTIES, Read, fit_ridge


def make(n: int, d: int, t: int = 3, seed: int = 0) -> tuple[Float64s, Float64s]:
    rng = np.random.default_rng(seed)
    features = rng.normal(3, 1, size=(n, d))
    return features, features[:, :t] * [1, 2, 3] + rng.normal(5, 2, size=(n, t))


def reader(features: Float64s, targets: Float64s) -> Read:
    def read(rows: Integers) -> tuple[Float64s, Float64s]:
        return features[rows], targets[rows]

    return read


@pytest.mark.parametrize(("n", "d"), [(200, 8), (30, 60), (61, 60)])
def test_is_that_of_scikit_learn(n: int, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "ROWS_AT_ONCE", 17)
    features, targets = make(n, d)
    groups = np.arange(n) % 3
    folds = [(np.flatnonzero(groups != g), np.flatnonzero(groups == g)) for g in range(3)]
    found = fit_ridge(reader(features, targets), np.arange(n), folds)
    scorer = "neg_mean_squared_error"
    chosen = RidgeCV(PENALTIES, scoring=scorer, cv=LeaveOneGroupOut().split(features, targets, groups))
    assert found.penalty == pytest.approx(chosen.fit(features, targets).alpha_)
    expected = Ridge(found.penalty).fit(features, targets)
    np.testing.assert_allclose(found.weights, expected.coef_.T, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found.intercept, expected.intercept_, rtol=1e-8)


def test_some_of_the_rows() -> None:
    features, targets = make(100, 5)
    rows = np.arange(0, 100, 2)
    found = fit_ridge(reader(features, targets), rows, [(rows[:30], rows[30:])])
    expected = Ridge(found.penalty).fit(features[rows], targets[rows])
    np.testing.assert_allclose(found.weights, expected.coef_.T, rtol=1e-8)


def test_noise_is_not_learned() -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(60, 40)), rng.normal(size=(60, 2))
    found = fit_ridge(reader(features, targets), np.arange(60), [(np.arange(30), np.arange(30, 60))])
    assert found.penalty == PENALTIES[-1]
    np.testing.assert_allclose(found.intercept, targets.mean(axis=0), atol=1e-3)


def test_constant_features_and_targets() -> None:
    features, targets = make(50, 4)
    features[:, 1], targets[:, 2] = 0, 7
    found = fit_ridge(reader(features, targets), np.arange(50), [(np.arange(25), np.arange(25, 50))])
    np.testing.assert_allclose(found.weights[1], 0)
    np.testing.assert_allclose(found.weights[:, 2], 0, atol=1e-12)
    assert found.intercept[2] == pytest.approx(7)


def test_no_rows() -> None:
    features, targets = make(10, 4)
    none = np.empty(0, dtype=np.intp)
    with pytest.raises(ValueError, match="no rows to fit"):
        fit_ridge(reader(features, targets), np.arange(10), [(none, np.arange(5))])
