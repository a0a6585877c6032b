from __future__ import annotations

import numpy as np
import pytest

from stdistill.models.usual import UsualFeatures


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float16)


def test_ratios_are_one_for_what_is_usual(features: np.ndarray) -> None:
    usual = UsualFeatures.fit(features[:2000], features[2000:])
    ratios = usual.ratios(features)
    assert np.median(ratios[2000:]) == pytest.approx(1, abs=1e-3)
    assert (ratios[2000:] > usual.rare).mean() == pytest.approx(0.01, abs=0.002)
    assert np.median(usual.ratios(features * 3)) > 2.5


def test_what_is_usual_follows_from_cells_that_were_not_learned_from(features: np.ndarray) -> None:
    """The held-out cells vary twice as much: their distance, not that of the fitted ones, is the measure."""
    features[2000:] *= 2
    usual = UsualFeatures.fit(features[:2000], features[2000:])
    ratios = usual.ratios(features)
    assert np.median(ratios[:2000]) == pytest.approx(0.5, abs=0.05)
    assert np.median(ratios[2000:]) == pytest.approx(1, abs=1e-3)


def test_a_cell_without_features_has_none(features: np.ndarray) -> None:
    usual = UsualFeatures.fit(features[:2000], features[2000:])
    features[5, 3] = np.nan
    ratios = usual.ratios(features)
    assert np.flatnonzero(np.isnan(ratios)).tolist() == [5]
    assert ratios.dtype == np.float32


def test_saved_and_restored(features: np.ndarray) -> None:
    usual = UsualFeatures.fit(features[:2000], features[2000:])
    again = UsualFeatures.from_tensors({**usual.tensors(), "mean": usual.tensors()["usual_means.mean"]})
    assert again is not None
    np.testing.assert_array_equal(again.ratios(features), usual.ratios(features))
    assert UsualFeatures.from_tensors({}) is None


def test_what_described_single_cells_is_not_compared_with(features: np.ndarray) -> None:
    """As models of before hold it: neighbourhoods would all be usual by that."""
    tensors = UsualFeatures.fit(features[:2000], features[2000:]).tensors()
    assert (
        UsualFeatures.from_tensors({name.replace("usual_means.", "usual."): t for name, t in tensors.items()}) is None
    )
