from __future__ import annotations

import numpy as np
from sklearn.svm import LinearSVC

from stdistill._measures.probe import predict_linear


def test_niches_beside_one_row_a_cell() -> None:
    """Few rows with weights are what all rows are: those of one niche and class need not be repeated."""
    rng = np.random.default_rng(0)
    niches = rng.integers(0, 6, 900)
    classes = np.where(rng.random(900) < 0.8, niches % 3, rng.integers(0, 3, 900))
    fit, score = np.arange(600), np.arange(600, 900)
    found = predict_linear(niches, classes, fit, score)
    one_hot = np.eye(6)[niches]
    expected = LinearSVC(dual=False).fit(one_hot[fit], classes[fit]).predict(one_hot[score])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, niches[score] % 3)


def test_a_niche_that_was_not_fitted() -> None:
    """It is told by what is usual: every class is one of those that were there."""
    niches, classes = np.array([0, 0, 1, 1, 2]), np.array([3, 3, 7, 7, 7])
    found = predict_linear(niches, classes, np.arange(4), np.array([4, 0]))
    assert found[1] == 3
    assert found[0] in (3, 7)


def test_logits_of_any_scale() -> None:
    """Each column is brought to one spread by the cells that are fitted."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 3))
    classes = (logits[:, 1] > 0).astype(int)
    fit, score = np.arange(300), np.arange(300, 400)
    plain = predict_linear(logits, classes, fit, score)
    assert (plain == classes[score]).mean() > 0.95
    np.testing.assert_array_equal(predict_linear(logits * [1e4, 1e-3, 1] + [5, 9, 0], classes, fit, score), plain)
