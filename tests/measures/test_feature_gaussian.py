from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from stdistill._measures import feature_gaussian
from stdistill._measures.feature_gaussian import FeatureGaussian


def correlated(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d))
    return (rng.normal(size=(n, d)) @ mixing * np.arange(1, d + 1) + 50).astype(np.float32)


def test_with_all_components_it_is_the_distance_of_mahalanobis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_gaussian, "SMALLEST", 0)
    features = correlated(400, 6, 0)
    gaussian = FeatureGaussian.fit(features[:300])
    inverse = np.linalg.inv(np.cov(features[:300].T.astype(float), bias=True))
    mean = features[:300].astype(float).mean(axis=0)
    expected = [mahalanobis(row.astype(float), mean, inverse) ** 2 for row in features[300:]]
    np.testing.assert_allclose(gaussian.squared_distances(features[300:]), expected, rtol=0.02)


def test_few_components_tell_strangers_apart() -> None:
    """200 features of 20 sources; strangers have the same spread along each feature but other sources."""
    rng = np.random.default_rng(0)
    known, other = rng.normal(size=(20, 200)), rng.normal(size=(20, 200))

    def draw(sources: np.ndarray, n: int) -> np.ndarray:
        return (rng.normal(size=(n, 20)) @ sources + 0.3 * rng.normal(size=(n, 200))).astype(np.float16)

    features = np.concatenate([draw(known, 3000), draw(other, 500)])
    gaussian = FeatureGaussian.fit(features[:2500], n_components=32)
    distances = gaussian.squared_distances(features)
    held_out, strangers = distances[2500:3000], distances[3000:]
    assert strangers.min() > 3 * held_out.max()
    assert np.median(held_out) == pytest.approx(200, rel=0.2)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    features = correlated(100, 8, 1)
    gaussian = FeatureGaussian.fit(features)
    whole = gaussian.squared_distances(features)
    monkeypatch.setattr(feature_gaussian, "CHUNK", 7)
    np.testing.assert_allclose(gaussian.squared_distances(features), whole, rtol=1e-5)


def test_a_feature_that_never_varied_says_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(500, 5)).astype(np.float32)
    features[:, 2] = 7
    gaussian = FeatureGaussian.fit(features)
    stranger = features[:1].copy()
    stranger[0, 2] = 1e4
    near, far = gaussian.squared_distances(np.concatenate([features[:1], stranger]))
    assert np.isfinite(near)
    assert far == near


def test_it_is_small() -> None:
    wide = FeatureGaussian.fit(np.random.default_rng(0).normal(size=(300, 1536)).astype(np.float16))
    assert sum(part.nbytes for part in wide) < 420_000


def test_a_constant_is_one_however_it_is_rounded() -> None:
    """0.1 has no exact mean in float32: what is left of its spread is rounding."""
    features = np.random.default_rng(0).normal(size=(20_000, 4)).astype(np.float32)
    features[:, 1] = 0.1
    gaussian = FeatureGaussian.fit(features)
    assert np.isinf(gaussian.std).tolist() == [False, True, False, False]


def test_what_features_vary_by() -> None:
    """Four features that move as two pairs: two axes hold nearly all. Four that move alone, by as much, share half."""
    rng = np.random.default_rng(0)
    sources = rng.normal(size=(4000, 4))
    paired = np.repeat(sources[:, :2], 2, axis=1) + 0.05 * sources
    gaussian = FeatureGaussian.fit(paired)
    assert gaussian.share_along(paired + 9, 0.98) == pytest.approx(1, abs=0.01)
    assert gaussian.share_along(sources, 0.98) == pytest.approx(1 / 2, abs=0.02)
    assert gaussian.share_along(sources * [[1, -1, 1, -1]], 0.98) == pytest.approx(1 / 2, abs=0.02)
    assert gaussian.share_along(np.repeat(sources[:, :2], 2, axis=1) * [1, -1, 1, -1], 0.98) < 0.01
    assert gaussian.share_along(paired, 0.3) == pytest.approx(1 / 2, abs=0.02)  # along one of the two
    assert gaussian.share_along(np.ones((50, 4)), 0.98) == 0


def test_features_beyond_the_axes_are_counted() -> None:
    """Of six sources four have an axis: the other two are in the sum, in the training as on a slide."""
    features = np.random.default_rng(0).normal(size=(5000, 6))
    gaussian = FeatureGaussian.fit(features, n_components=4)
    assert gaussian.share_along(features, 0.6) == pytest.approx(4 / 6, abs=0.02)
