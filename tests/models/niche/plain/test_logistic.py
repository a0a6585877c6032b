"""Logistic regression on neighbourhood means: what it learns, and how its penalty is chosen."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

from stdistill._training.holdout import hold_out_blocks
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.plain import logistic
from stdistill.models.niche.plain.logistic import LEAST, logistic_logits
from stdistill.models.niche.plain.means import find_scale, read_means

N = 900
SLIDE = np.zeros(N, dtype=np.int64)


@pytest.fixture
def data(make_neighborhoods: Callable[..., Neighborhoods]) -> Neighborhoods:
    """Three bands; two of a dozen features tell them apart, in much noise."""
    data = make_neighborhoods(N, n_features=12, extent=1600.0)
    data.features[:, :2] += 1.5 * np.array([[1, 0], [-1, 1], [0, -1]])[band(data)]
    return data


def band(data: Neighborhoods) -> np.ndarray:
    x = data.centers[:, 0]
    return np.searchsorted(np.quantile(x, [0.4, 0.7]), x)


def learn(data: Neighborhoods, labels: np.ndarray, training: np.ndarray, k: int = 3) -> tuple:
    return logistic_logits(data, SLIDE, labels, training, np.ones(N, dtype=bool), k=k, seed=0)


def test_it_is_scikit_learns(data: Neighborhoods) -> None:
    """On the means of all training cells, with the penalty that it names."""
    labels, training = band(data), np.arange(N) % 5 > 0
    logits, fitted = learn(data, labels, training)
    _, held_out = hold_out_blocks(
        data.centers, SLIDE, data.indptr, data.indices, training, radius_um=data.radius_um, seed=0
    )
    assert (fitted.n_training_cells, fitted.n_validation_cells) == (training.sum(), held_out.sum())
    assert held_out.any()
    means = read_means(data, np.arange(N), find_scale(data, np.flatnonzero(training)))
    scaler = StandardScaler().fit(means[training])
    theirs = LogisticRegression(C=fitted.inverse_penalty, max_iter=2000).fit(
        scaler.transform(means[training]), labels[training]
    )
    np.testing.assert_allclose(np.exp(logits), theirs.predict_proba(scaler.transform(means)), atol=0.01)
    test = ~training
    assert adjusted_rand_score(labels[test], logits[test].argmax(axis=1)) > 0.8


def test_the_penalty_suits_cells_that_were_held_out(data: Neighborhoods) -> None:
    """It is weak where the means tell the niches, and strong where they tell nothing."""
    everywhere = np.ones(N, dtype=bool)
    _, plain = learn(data, band(data), everywhere)
    _, noise = learn(data, np.random.default_rng(0).integers(0, 3, N), everywhere)
    assert plain.inverse_penalty >= 1e-1
    assert noise.inverse_penalty <= 1e-3


def test_tissue_too_small_to_hold_out(data: Neighborhoods) -> None:
    few = np.zeros(N, dtype=bool)
    few[np.argsort(((data.centers - data.centers[0]) ** 2).sum(axis=1))[:40]] = True
    labels = np.arange(N) % 2
    logits, fitted = learn(data, labels, few)
    assert fitted == (logistic.USUAL_STRENGTH, 40, 0)
    assert np.isfinite(logits).all()


def test_niches_that_no_training_cell_is_in(data: Neighborhoods) -> None:
    labels = np.array([0, 3, 4])[band(data)]
    logits, _ = learn(data, labels, np.ones(N, dtype=bool), k=6)
    assert logits.shape == (N, 6)
    np.testing.assert_allclose(logits[:, [1, 2, 5]], np.log(LEAST), rtol=1e-5)
    assert set(logits.argmax(axis=1)) == {0, 3, 4}
    with pytest.raises(ValueError, match=r"training cells are in one niche of the teacher: there is nothing to tell"):
        learn(data, np.zeros(N, dtype=np.int64), np.ones(N, dtype=bool))


def test_a_sample_of_a_large_training(data: Neighborhoods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "MOST_CELLS", 150)
    logits, fitted = learn(data, band(data), np.ones(N, dtype=bool))
    assert fitted.n_training_cells == 150
    assert adjusted_rand_score(band(data), logits.argmax(axis=1)) > 0.8


def test_no_warning_of_fits_that_end_early(data: Neighborhoods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        learn(data, band(data), np.ones(N, dtype=bool))
