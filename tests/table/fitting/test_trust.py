from __future__ import annotations

import warnings

import numpy as np
import pytest

from stdistill._table.fitting.inputs import NicheInputs
from stdistill._table.fitting.trust import (
    calibrate,
    describe_features,
    judge_features,
    measure_calibration,
    measure_ood,
)
from stdistill.models.niche.batches import Neighborhoods


def sure(n: int, share_right: float, logit: float) -> tuple[np.ndarray, np.ndarray]:
    """Two niches; every cell's first has the same logit, and is right for a share of the cells."""
    logits = np.tile([logit, 0.0], (n, 1))
    return logits, (np.arange(n) >= share_right * n).astype(int)


def test_a_model_that_says_more_than_it_knows_is_cooled() -> None:
    """At a logit of ln 4 a softmax of 0.8; right are 80 %, but it says ln 16: twice as much."""
    logits, truth = sure(1000, 0.8, float(np.log(16)))
    found = calibrate(logits, truth, np.arange(1000))
    assert found is not None
    assert found["temperature"] == pytest.approx(2, abs=0.01)
    assert found["n_cells"] == 1000
    assert found["ece_before"] == pytest.approx(16 / 17 - 0.8, abs=1e-3)
    assert found["ece_after"] < 0.01
    test = np.arange(1000) % 2 == 0
    of_test = measure_calibration(logits, truth, test, found["temperature"])
    assert of_test["ece_before"] > 0.1
    assert of_test["ece_after"] < 0.01


@pytest.mark.parametrize("held_out", [np.arange(0), np.arange(99)])
def test_too_few_cells_calibrate_nothing(held_out: np.ndarray) -> None:
    assert calibrate(*sure(1000, 0.8, 3.0), held_out) is None
    assert measure_calibration(*sure(10, 0.8, 3.0), np.zeros(10, dtype=bool), 1.0) == {}


def alone(features: np.ndarray, *looks: np.ndarray) -> Neighborhoods:
    """Cells without neighbours: the mean of a neighbourhood is the cell itself."""
    nobody = np.zeros(len(features) + 1, dtype=np.int64), np.zeros(0, dtype=np.int32)
    return Neighborhoods(features, *nobody, np.zeros((len(features), 2)), 30.0, augmented=looks)


def test_neighbourhoods_are_described_by_their_means() -> None:
    """Each cell beside one: means vary by a half of what cells do, and a shift of all counts by √2 as much."""
    rng = np.random.default_rng(0)
    n, split = 4000, (np.arange(3000), np.arange(3000, 4000))
    features = rng.normal(size=(n, 4)).astype(np.float32)
    beside = np.arange(n + 1), np.arange(n, dtype=np.int32) ^ 1
    pairs = Neighborhoods(features, *beside, np.zeros((n, 2)), 30.0)
    single, paired = (describe_features(each, *split, seed=0) for each in (alone(features), pairs))
    assert single is not None
    assert paired is not None
    np.testing.assert_allclose(paired.gaussian.std, single.gaussian.std / 2**0.5, rtol=0.05)
    stranger = np.full((1, 4), 5, dtype=np.float32)
    assert paired.ratios(stranger) / single.ratios(stranger) == pytest.approx(2**0.5, rel=0.05)


def test_a_neighbourhood_is_as_unusual_as_its_mean() -> None:
    """Cell 0 has the neighbours 1 and 2, of which 2 has no features; cell 3 is not asked for."""
    rng = np.random.default_rng(0)
    usual = describe_features(
        alone(rng.normal(size=(400, 2)).astype(np.float32)), np.arange(300), np.arange(300, 400), seed=0
    )
    assert usual is not None
    features = np.array([[0, 0], [4, 2], [np.nan, 1], [1, 1]], dtype=np.float32)
    indptr, indices = np.array([0, 2, 3, 4, 4]), np.array([1, 2, 0, 0], dtype=np.int32)
    inputs = NicheInputs(
        tables=[],
        features=features,
        augmented=[],
        indptr=indptr,
        indices=indices,
        centers=np.array([[0.0, 0], [5, 0], [0, 5], [50, 50]]),
        libraries=np.zeros(4, dtype=np.int64),
        radius_um=10.0,
        eligible=np.array([True, True, True, False]),
        test=np.zeros(4, dtype=bool),
        training=np.zeros(4, dtype=bool),
    )
    found = measure_ood(usual, inputs, inputs.neighborhoods(max_tokens=None))
    np.testing.assert_allclose(found[:2], usual.ratios(np.array([[2, 1], [2, 1]], dtype=np.float32)), rtol=1e-5)
    assert np.isnan(found[2:]).all()


def slide_of(features: np.ndarray) -> NicheInputs:
    """Cells without neighbours, of one slide."""
    n, nobody, everybody = len(features), np.zeros(len(features), dtype=bool), np.ones(len(features), dtype=bool)
    return NicheInputs(
        tables=[],
        features=features.astype(np.float32),
        augmented=[],
        indptr=np.zeros(n + 1, dtype=np.int64),
        indices=np.zeros(0, dtype=np.int32),
        centers=np.zeros((n, 2)),
        libraries=np.zeros(n, dtype=np.int64),
        radius_um=10.0,
        eligible=everybody,
        test=nobody,
        training=nobody,
    )


def test_slides_are_judged_by_the_median() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 10)).astype(np.float32)
    usual = describe_features(alone(features), np.arange(1500), np.arange(1500, 2000), seed=0)
    assert usual is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, fine = judge_features(usual, slide_of(rng.normal(size=(3000, 10))), "training")
    assert fine["ood_median"] == pytest.approx(1, abs=0.03)
    assert fine["ood_share_rare"] == pytest.approx(0.01, abs=0.01)
    assert "known_variation" not in fine
    with pytest.warns(UserWarning, match="rather unlike those"):
        judge_features(usual, slide_of(features * 3), "training")
    with pytest.warns(UserWarning, match="unlike any"):
        assert judge_features(usual, slide_of(features + 12), "training")[1]["ood_share_rare"] == 1
    ratios, nothing = judge_features(usual, slide_of(np.full((3, 10), np.nan)), "training")
    assert np.isnan(ratios).all()
    assert nothing == {}


def test_slides_of_students_by_slide_are_judged_by_what_they_vary_by() -> None:
    """Ten features of three sources; a shift and a scale of all cells are taken away, other sources are not."""
    rng = np.random.default_rng(0)
    own, other = rng.normal(size=(2, 3, 10))

    def draw(sources: np.ndarray, n: int = 2000) -> np.ndarray:
        found = rng.normal(size=(n, 3)) @ sources + 0.05 * rng.normal(size=(n, 10))
        return np.asarray((found - found.mean(axis=0)) / found.std(axis=0), dtype=np.float32)

    usual = describe_features(alone(draw(own)), np.arange(1500), np.arange(1500, 2000), seed=0)
    assert usual is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, fine = judge_features(usual, slide_of(draw(own) * np.arange(1, 11) + 40), "slide")
    assert fine["known_variation"] > 0.97
    with pytest.warns(UserWarning, match=r"Of what neighbourhoods of this slide differ by in the H&E, \d\d% is what"):
        _, strange = judge_features(usual, slide_of(draw(other)), "slide")
    assert strange["known_variation"] < 0.8
    with pytest.warns(UserWarning, match="fewer than 100"):
        _, small = judge_features(usual, slide_of(draw(other)[:99]), "slide")
    assert "known_variation" not in small


def test_looks_that_were_learned_from() -> None:
    """A shift of all cells that a look showed is less unusual; that cells differ more in a look is not."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 10)).astype(np.float32)
    split = np.arange(1500), np.arange(1500, 2000)
    shift = np.array([6] + [0] * 9, dtype=np.float32)
    plain, shifted, wider = (
        describe_features(alone(features, *looks), *split, seed=0) for looks in ([], [features + shift], [3 * features])
    )
    assert plain is not None
    assert shifted is not None
    assert wider is not None
    usual, seen, other = (np.median(plain.ratios(slide)) for slide in (features, features + shift, 3 * features))
    assert seen > 1.5
    assert np.median(shifted.ratios(features + shift)) == pytest.approx(1, abs=0.1)
    assert np.median(shifted.ratios(features)) == pytest.approx(usual, abs=0.1)
    assert np.median(wider.ratios(3 * features)) == pytest.approx(other, abs=0.1)


def test_parts_of_slides() -> None:
    """A mean that is moved as in a part of the slide is usual; the same the other way is not."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 10)).astype(np.float32)
    split, shift = (np.arange(1500), np.arange(1500, 2000)), np.array([6] + [0] * 9, dtype=np.float32)
    usual = describe_features(alone(features), *split, seed=0, parts=[alone(features + shift)])
    assert usual is not None
    as_it_is, moved, elsewhere = (np.median(usual.ratios(features + by * shift)) for by in (0, 1, -3))
    assert as_it_is == pytest.approx(1, abs=0.1)
    assert moved == pytest.approx(1, abs=0.1)
    assert elsewhere > 1.5


def test_too_few_cells_describe_nothing() -> None:
    features = np.zeros((300, 2), dtype=np.float32)
    assert describe_features(alone(features), np.arange(200), np.arange(200, 299), seed=0) is None
    assert describe_features(alone(features), np.arange(99), np.arange(100, 300), seed=0) is None


def test_one_niche_is_always_right() -> None:
    logits, truth = np.zeros((500, 1)), np.zeros(500, dtype=int)
    assert calibrate(logits, truth, np.arange(500)) is None
    assert measure_calibration(logits, truth, np.ones(500, dtype=bool), 1.0) == {}
