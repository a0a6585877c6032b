from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from stdistill._measures.alignment.probe import PENALTIES, fit_hest_ridge, fit_ridge


def linear(n: int = 200, d: int = 8, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = 3 + 2 * rng.normal(size=(n, d))
    targets = 7 + features @ rng.normal(size=(d, 4)) + noise * rng.normal(size=(n, 4))
    return features, targets


def test_ridge_knows_the_level() -> None:
    features, targets = linear()
    predicted = fit_ridge(features[:150], targets[:150])(features[150:])
    assert ((predicted - targets[150:]) ** 2).mean() < 0.35  # the noise's variance is 0.25


def test_penalty_is_the_one_that_left_out_rows_ask_for() -> None:
    """Leave each row out in a loop."""
    features, targets = linear(30, 20, noise=6)
    scaled = StandardScaler().fit_transform(features)
    errors = []
    for penalty in PENALTIES:
        left = [np.delete(np.arange(30), i) for i in range(30)]
        predicted = [
            Ridge(alpha=penalty).fit(scaled[r], targets[r]).predict(scaled[[i]])[0] for i, r in enumerate(left)
        ]
        errors.append(((np.array(predicted) - targets) ** 2).mean())
    best = PENALTIES[int(np.argmin(errors))]
    assert best not in (PENALTIES[0], PENALTIES[-1])
    expected = Ridge(alpha=best).fit(scaled, targets).predict(scaled)
    np.testing.assert_allclose(fit_ridge(features, targets)(features), expected, rtol=1e-6)


def test_noise_is_predicted_by_the_mean() -> None:
    rng = np.random.default_rng(0)
    targets = 4 + rng.normal(size=(80, 3))
    predicted = fit_ridge(rng.normal(size=(80, 40)), targets)(rng.normal(size=(20, 40)))
    np.testing.assert_allclose(predicted, np.tile(targets.mean(axis=0), (20, 1)), atol=0.5)


@pytest.mark.parametrize(("n", "d", "components"), [(400, 300, 256), (60, 12, 12), (20, 300, 20)])
def test_hest_written_out(n: int, d: int, components: int) -> None:
    features, targets = linear(n + 10, d)
    training, others = features[:n], features[n:]
    mean, std = training.mean(axis=0), training.std(axis=0)
    pca = PCA(components, random_state=0).fit((training - mean) / std)
    x, test = pca.transform((training - mean) / std), pca.transform((others - mean) / std)
    alpha = 100 / (components * 4)
    closed = np.linalg.solve(x.T @ x + alpha * np.eye(components), x.T @ targets[:n])
    found = fit_hest_ridge(training, targets[:n])(others)
    np.testing.assert_allclose(found, test @ closed, atol=0.02 * np.abs(test @ closed).max())  # lsqr stops early


def test_hest_does_not_know_the_level() -> None:
    """Without an intercept predictions lie around 0: they are right in order, and their error is the level squared."""
    features, targets = linear(noise=0.1)
    predicted = fit_hest_ridge(features[:150], targets[:150] + 100)(features[150:])
    assert np.corrcoef(predicted[:, 0], targets[150:, 0])[0, 1] > 0.99
    assert ((predicted - targets[150:] - 100) ** 2).mean() > 5000


def test_float16_and_constant_features() -> None:
    features, targets = linear()
    features = np.c_[features, np.full(200, 2)].astype(np.float16)
    for fit in (fit_ridge, fit_hest_ridge):
        predicted = fit(features[:150], targets[:150])(features[150:])
        assert predicted.dtype == np.float64
        assert np.isfinite(predicted).all()
