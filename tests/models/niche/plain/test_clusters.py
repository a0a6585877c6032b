"""K-means of neighbourhood means: what it finds, and what its logits are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.plain import clusters
from stdistill.models.niche.plain.clusters import cluster_logits, fit_clusters
from stdistill.models.niche.plain.means import Scale, find_scale, read_means

SLIDE = np.zeros(500, dtype=np.int64)


@pytest.fixture
def data(make_neighborhoods: Callable[..., Neighborhoods]) -> Neighborhoods:
    """Three bands, each with features of its own in much noise."""
    data = make_neighborhoods(500, extent=800.0)
    data.features[:, :2] += 1.5 * np.array([[1, 0], [-1, 1], [0, -1]])[band(data)]
    return data


def band(data: Neighborhoods) -> np.ndarray:
    x = data.centers[:, 0]
    return np.searchsorted(np.quantile(x, [0.4, 0.7]), x)


def test_clusters_are_in_standardised_features(data: Neighborhoods) -> None:
    scale = Scale(torch.full((5,), 10.0), torch.full((5,), 2.0))
    found = fit_clusters(data, np.arange(500), 3, scale, seed=0)
    assert found.centers.shape == (3, 5)
    assert found.centers.mean() == pytest.approx((data.features.mean() - 10) / 2, abs=0.1)


def test_logits_are_those_of_round_gaussians(data: Neighborhoods) -> None:
    training = np.arange(500) % 5 > 0
    logits, found = cluster_logits(data, SLIDE, training, np.ones(500, dtype=bool), k=3, seed=0)
    means = read_means(data, np.arange(500), find_scale(data, np.flatnonzero(training)))
    distances = ((means[:, None] - found.centers) ** 2).sum(axis=2)
    assert found.variance == pytest.approx(distances[training].min(axis=1).mean() / 5, rel=1e-4)
    np.testing.assert_allclose(logits, -distances / (2 * found.variance), rtol=1e-3, atol=1e-3)
    density = np.exp(-distances / (2 * found.variance))
    np.testing.assert_allclose(softmax(logits, axis=1), density / density.sum(axis=1, keepdims=True), atol=1e-3)


def test_it_is_scikit_learns(data: Neighborhoods) -> None:
    everywhere = np.ones(500, dtype=bool)
    logits, _ = cluster_logits(data, SLIDE, everywhere, everywhere, k=3, seed=0)
    means = read_means(data, np.arange(500), find_scale(data, np.arange(500)))
    theirs = KMeans(3, n_init=10, random_state=1).fit_predict(means)
    assert adjusted_rand_score(theirs, logits.argmax(axis=1)) > 0.98
    assert adjusted_rand_score(band(data), logits.argmax(axis=1)) > 0.8


def test_cells_that_are_not_trained_on_change_nothing(data: Neighborhoods) -> None:
    """But those that lie around the training cells; and who is not to be told gets no logits."""
    training = np.arange(500) % 5 > 0
    told = training.copy()
    told[:50] = False
    logits, found = cluster_logits(data, SLIDE, training, told, k=3, seed=0)
    np.testing.assert_array_equal(np.isnan(logits).all(axis=1), ~told)
    assert np.isfinite(logits[told]).all()
    _, again = cluster_logits(data, SLIDE, training, np.ones(500, dtype=bool), k=3, seed=0)
    np.testing.assert_array_equal(found.centers, again.centers)


def test_a_sample_of_a_large_training(data: Neighborhoods, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []
    fit = KMeans.fit

    def spy(self: KMeans, values: np.ndarray) -> KMeans:
        fitted.append(len(values))
        return fit(self, values)

    monkeypatch.setattr(KMeans, "fit", spy)
    monkeypatch.setattr(clusters, "CELLS_TO_CLUSTER", 120)
    everywhere = np.ones(500, dtype=bool)
    logits, _ = cluster_logits(data, SLIDE, everywhere, everywhere, k=3, seed=0)
    assert fitted == [120]
    assert np.isfinite(logits).all()
    assert adjusted_rand_score(band(data), logits.argmax(axis=1)) > 0.8
