from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import pearsonr

from stdistill._measures.abundances.scores import score

ONE_SECTION = np.zeros(4, dtype=int)


def test_by_hand() -> None:
    """One section, two types: the first in step with the truth, the second against it."""
    truth = np.array([[0, 3], [1, 2], [2, 1], [3, 0]], dtype=np.float32)
    predicted = np.array([[1, 0], [3, 1], [5, 2], [7, 3]], dtype=np.float32)
    scores = score(predicted, truth, ONE_SECTION, np.array([1.5, 1.5]))
    assert scores.of_types["cc"].tolist() == pytest.approx([1, -1])
    assert scores.cc == pytest.approx(0)
    assert scores.of_types["l1"].tolist() == [2.5, 2]  # 1, 2, 3, 4; 3, 1, 1, 3
    assert scores.l1 == 2.25
    assert scores.of_types["skill"].tolist() == [-1.5, -1]  # the mean is wrong by 1.5, .5, .5, 1.5: by 1
    assert scores.skill == -1.25
    assert (scores.n_rows, scores.n_undefined) == (4, 0)


def test_correlation_is_taken_within_sections() -> None:
    """Levels of sections that differ are no merit of a prediction that says nothing within them."""
    truth = np.array([[0.0], [1], [10], [11]])
    predicted = np.array([[1.0], [0], [11], [10]])
    assert score(predicted, truth, ONE_SECTION).cc > 0.9
    assert score(predicted, truth, np.array([5, 5, 2, 2])).cc == pytest.approx(-1)


def test_every_section_counts_alike_whatever_it_holds() -> None:
    """Mean over types first: a section in which one type alone occurs weighs as one in which two do."""
    truth = np.array([[0.0, 0], [1, 1], [0, 0], [1, 0]])
    predicted = np.array([[0.0, 0], [1, 1], [1, 0], [0, 1]])
    scores = score(predicted, truth, np.array([0, 0, 1, 1]))
    assert scores.cc == pytest.approx(0)  # of 1 and -1; over the three pairs it would be 1 / 3
    assert scores.of_types["cc"].tolist() == pytest.approx([0, 1])
    assert scores.n_undefined == 0  # the second type's truth is constant in section 1: nothing to find there


def test_is_that_of_pearsonr_on_random_sections() -> None:
    rng = np.random.default_rng(0)
    truth = rng.gamma(1, size=(300, 6)).astype(np.float32)
    predicted = (truth + rng.gamma(2, size=truth.shape)).astype(np.float32)
    libraries = rng.integers(0, 4, 300)
    each = np.array(
        [
            [
                pearsonr(predicted[rows, number].astype(float), truth[rows, number].astype(float))[0]
                for number in range(6)
            ]
            for rows in (libraries == library for library in range(4))
        ]
    )
    scores = score(predicted, truth, libraries, truth.mean(axis=0))
    assert scores.of_types["cc"].to_numpy() == pytest.approx(each.mean(axis=0))
    assert scores.cc == pytest.approx(each.mean())
    assert scores.skill == pytest.approx(
        1 - np.abs(predicted - truth).mean() / np.abs(truth - truth.mean(axis=0)).mean()
    )


def test_a_constant_prediction_is_undefined_and_counted() -> None:
    """Also one that is constant but for rounding, whose noise would correlate with anything."""
    rng = np.random.default_rng(0)
    truth = rng.random((50, 3)).astype(np.float32)
    truth[:, 2] = 0
    predicted = np.tile(np.array([0.3, 0.3, 0.1], dtype=np.float32), (50, 1))
    predicted[::2, 1] = np.nextafter(np.float32(0.3), np.float32(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score(predicted, truth, np.zeros(50, dtype=int))
    assert np.isnan(scores.cc)
    assert scores.of_types["n_undefined"].tolist() == [1, 1, 0]
    assert scores.n_undefined == 2


def test_constant_in_one_section_is_undefined_there_alone() -> None:
    truth = np.array([[0.0], [1], [0], [1]])
    predicted = np.array([[0.0], [1], [0.5], [0.5]])
    scores = score(predicted, truth, np.array([0, 0, 1, 1]))
    assert (scores.cc, scores.n_undefined) == (pytest.approx(1), 1)


def test_scale_of_abundances_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.random((2, 40, 3))
    plain, small = (
        score(predicted * by, truth * by, np.zeros(40, dtype=int), truth.mean(axis=0) * by) for by in (1, 1e-9)
    )
    assert small.cc == pytest.approx(plain.cc)
    assert small.skill == pytest.approx(plain.skill)


def test_the_training_mean_has_no_skill_and_the_truth_all() -> None:
    truth = np.random.default_rng(0).random((30, 4))
    mean, sections = truth.mean(axis=0) + 0.1, np.zeros(30, dtype=int)
    assert score(np.tile(mean, (30, 1)), truth, sections, mean).skill == pytest.approx(0)
    perfect = score(truth, truth, sections, mean)
    assert (perfect.skill, perfect.l1) == (1, 0)
    assert perfect.cc == pytest.approx(1)


def test_without_a_training_mean_there_is_no_skill() -> None:
    truth = np.random.default_rng(0).random((30, 2))
    scores = score(truth, truth, np.zeros(30, dtype=int))
    assert np.isnan(scores.skill)
    assert scores.of_types["skill"].isna().all()


def test_a_type_that_the_training_mean_gets_right_has_no_skill_of_its_own() -> None:
    truth = np.array([[0.0, 0], [0, 1], [0, 2], [0, 3]])
    scores = score(truth, truth, ONE_SECTION, np.array([0.0, 1.5]))
    assert np.isnan(scores.of_types["skill"][0])
    assert scores.skill == 1


@pytest.mark.parametrize("which", [0, 1])
def test_rows_that_are_not_known_are_left_out(which: int) -> None:
    tables = [*np.random.default_rng(0).random((2, 20, 3))]
    without = score(tables[0][4:], tables[1][4:], np.arange(16) % 2)
    tables[which] = tables[which].copy()
    tables[which][:4, 1] = np.nan
    scores = score(tables[0], tables[1], np.arange(20) % 2)
    assert scores.n_rows == 16
    assert (scores.cc, scores.l1) == (without.cc, without.l1)
    assert scores.of_types.equals(without.of_types)


def test_a_section_without_known_rows_takes_no_part() -> None:
    truth = np.array([[0.0], [1], [2], [3]])
    predicted = np.array([[0.0], [1], [np.nan], [np.nan]])
    scores = score(predicted, truth, np.array([0, 0, 1, 1]))
    assert (scores.cc, scores.n_rows) == (pytest.approx(1), 2)


def test_one_row_says_nothing_of_correlation() -> None:
    scores = score(np.array([[1.0, 2]]), np.array([[2.0, 2]]), np.zeros(1, dtype=int))
    assert np.isnan(scores.cc)
    assert (scores.l1, scores.n_undefined) == (0.5, 0)


def test_what_does_not_go_together_is_an_error() -> None:
    values = np.ones((4, 2))
    with pytest.raises(ValueError, match=r"\(4, 2\) and truth \(4, 3\) must have the same shape"):
        score(values, np.ones((4, 3)), ONE_SECTION)
    with pytest.raises(ValueError, match="same shape"):
        score(values[:, :0], values[:, :0], ONE_SECTION)
    with pytest.raises(ValueError, match="a section for each of the 4 rows"):
        score(values, values, np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="one number for each of the types"):
        score(values, values, ONE_SECTION, np.ones(3))
    with pytest.raises(ValueError, match="None of the 4 rows has values in both"):
        score(np.full((4, 2), np.nan), values, ONE_SECTION)
