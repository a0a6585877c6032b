"""The nearest rows of the training, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from stdistill.models.composition import baselines
from stdistill.models.composition.baselines import N_NEIGHBORS, predict_nearest
from stdistill.models.composition.folds import Fold
from stdistill.models.composition.rows import FeatureRows

N = 300


@pytest.fixture
def places() -> tuple[np.ndarray, np.ndarray]:
    """Features, one of them a thousand times as large as the others, and what is to be told from them."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(N, 4)) * [1000, 1, 1, 1]
    targets = np.exp(features[:, 1:3] / 2) + 0.3 * rng.normal(size=(N, 2))
    return features.astype(np.float32), targets.clip(0).astype(np.float32)


def folds_of(cells: np.ndarray) -> list[Fold]:
    return [Fold(cells[cells % 3 != part], cells[cells % 3 == part]) for part in range(3)]


def by_brute_force(features: np.ndarray, targets: np.ndarray, cells: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Standardised by the training, the number of neighbours by the folds, and then all of the training."""
    scaled = (features - features[cells].mean(axis=0)) / features[cells].std(axis=0)

    def nearest(known: np.ndarray, wanted: np.ndarray, k: int) -> np.ndarray:
        order = cdist(scaled[wanted], scaled[known]).argsort(axis=1)[:, :k]
        return targets[known][order].mean(axis=1)

    errors = [
        sum(((nearest(f.fitting, f.held_out, k) - targets[f.held_out]) ** 2).mean() for f in folds_of(cells))
        for k in N_NEIGHBORS
    ]
    return nearest(cells, asked, N_NEIGHBORS[int(np.argmin(errors))])


@pytest.mark.parametrize("at_once", [7, 4096])
def test_beside_brute_force(
    places: tuple[np.ndarray, np.ndarray], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "ROWS_AT_ONCE", at_once)
    features, targets = places
    cells, asked = np.arange(0, 240), np.arange(200, N)
    found = predict_nearest(FeatureRows([features]), targets, cells, folds_of(cells), asked, seed=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_brute_force(features, targets, cells, asked), rtol=1e-4, atol=1e-5)


def test_what_was_not_fitted_has_no_part(places: tuple[np.ndarray, np.ndarray]) -> None:
    features, targets = places
    cells, asked = np.arange(0, 240), np.arange(0, 100)
    before = predict_nearest(FeatureRows([features]), targets, cells, folds_of(cells), asked, seed=0)
    features[240:], targets[240:] = 5, 1e6
    after = predict_nearest(FeatureRows([features]), targets, cells, folds_of(cells), asked, seed=0)
    np.testing.assert_array_equal(before, after)


def test_large_trainings_are_drawn_from(places: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the seed, and still better than the mean."""
    monkeypatch.setattr(baselines, "MOST_ROWS", 60)
    features, targets = places
    cells, asked = np.arange(0, 240), np.arange(240, N)
    rows = FeatureRows([features])
    first, same, other = (
        predict_nearest(rows, targets, cells, folds_of(cells), asked, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    for found in (first, other):
        assert ((found - targets[asked]) ** 2).mean() < ((targets[cells].mean(axis=0) - targets[asked]) ** 2).mean()


def test_fewer_rows_than_neighbours() -> None:
    """Of three rows all are taken, whatever number would be best."""
    features = np.array([[0.0], [1], [2], [9]], dtype=np.float32)
    targets = np.array([[1.0], [2], [6], [0]], dtype=np.float32)
    folds = [Fold(np.array([0, 1]), np.array([2]))]
    found = predict_nearest(FeatureRows([features]), targets, np.arange(3), folds, np.array([3]), seed=0)
    np.testing.assert_allclose(found, [[3.0]])
