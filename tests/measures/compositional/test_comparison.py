from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stdistill._measures.compositional.comparison import Design, Tested, estimate, permute

CONFIDENCE = 0.9


def design(group: np.ndarray, covariates: np.ndarray | None = None, patients: np.ndarray | None = None) -> Design:
    n = len(group)
    return Design(
        np.asarray(group, dtype=float),
        np.empty((n, 0)) if covariates is None else covariates,
        np.arange(n) if patients is None else patients,
    )


def intervals(values: np.ndarray, of: Design) -> np.ndarray:
    return np.array(estimate(values, of, CONFIDENCE))


def check(values: np.ndarray, of: Design) -> Tested:
    return permute(values, of, n_permutations=199, seed=0)


def test_slides_are_compared_as_by_students_t() -> None:
    values, group = np.random.default_rng(0).normal(size=(15, 3)), np.repeat([0.0, 1.0], [7, 8])
    found = check(values, design(group))
    theirs = stats.ttest_ind(values[7:], values[:7])
    low, high = theirs.confidence_interval(0.9)
    difference = values[7:].mean(axis=0) - values[:7].mean(axis=0)
    np.testing.assert_allclose(intervals(values, design(group)), np.c_[difference, low, high])
    assert (found.unit, found.n_patients) == ("slides", 15)
    np.testing.assert_allclose(found.q, stats.false_discovery_control(found.p))


def test_pairs_are_compared_as_by_students_t_of_differences() -> None:
    rng = np.random.default_rng(1)
    patients, group = np.tile(np.arange(9), 2), np.repeat([0.0, 1.0], 9)
    values = rng.normal(size=(18, 3)) + 2 * rng.normal(size=(9, 3))[patients]
    found = check(values, design(group, patients=patients))
    low, high = stats.ttest_rel(values[9:], values[:9]).confidence_interval(0.9)
    np.testing.assert_allclose(intervals(values, design(group, patients=patients))[:, 1:], np.c_[low, high], atol=1e-4)
    assert (found.unit, found.n_patients) == ("slides of a patient", 9)


def test_patients_of_equally_many_slides_are_compared_as_by_students_t_of_means() -> None:
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(12), 3)
    group = (patients % 2).astype(float)
    values = rng.normal(size=(36, 2)) + 2 * rng.normal(size=(12, 2))[patients]
    found = check(values, design(group, patients=patients))
    means = values.reshape(12, 3, 2).mean(axis=1)
    low, high = stats.ttest_ind(means[1::2], means[::2]).confidence_interval(0.9)
    np.testing.assert_allclose(intervals(values, design(group, patients=patients))[:, 1:], np.c_[low, high], atol=1e-4)
    assert (found.unit, found.n_patients) == ("patients", 12)
    alone = check(means, design(np.tile([0.0, 1.0], 6)))
    np.testing.assert_array_equal(found.p, alone.p)


def test_patients_of_unequally_many_slides_are_compared_as_by_weighted_means() -> None:
    """The interval is wider than if slides were patients, and the patient with many slides does not decide."""
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(10), rng.integers(1, 6, 10))
    group = (patients % 2).astype(float)
    values = 0.3 * rng.normal(size=(len(patients), 1)) + rng.normal(size=(10, 1))[patients]
    mixed = intervals(values, design(group, patients=patients))[0]
    wrong = intervals(values, design(group))[0]
    assert mixed[2] - mixed[1] > 1.3 * (wrong[2] - wrong[1])


def test_a_covariate_is_accounted_for() -> None:
    rng = np.random.default_rng(4)
    age = rng.normal(size=40)
    group = (age + 0.5 * rng.normal(size=40) > 0).astype(float)
    values = (2 * age + 0.1 * rng.normal(size=40))[:, None]
    assert check(values, design(group)).p[0] < 0.01
    found = check(values, design(group, age[:, None]))
    assert found.p[0] > 0.05
    _, lower, upper = intervals(values, design(group, age[:, None]))[0]
    assert lower < 0 < upper


def test_an_effect_per_unit_of_a_number() -> None:
    dose = np.linspace(0, 3, 20)
    values = (0.5 * dose + 0.01 * np.random.default_rng(5).normal(size=20))[:, None]
    found = check(values, design(dose))
    assert intervals(values, design(dose))[0, 0] == pytest.approx(0.5, abs=0.01)
    assert found.p[0] == 1 / 200


def test_groups_that_differ_within_some_patients_alone() -> None:
    """Slides of patients with one of the groups stay where they are."""
    patients = np.array([0, 0, 1, 1, 2, 2, 3, 4])
    group = np.array([0, 1, 0, 1, 0, 1, 0, 1.0])
    found = check(np.random.default_rng(6).normal(size=(8, 2)), design(group, patients=patients))
    assert found.unit == "slides of a patient"
    assert found.orders.n_distinct == 2**3


def test_what_cannot_be_told() -> None:
    group = np.tile([0.0, 1.0], 4)
    values = np.random.default_rng(7).normal(size=(8, 2))
    with pytest.raises(ValueError, match="covariates tell the group"):
        intervals(values, design(group, 3 * group[:, None] + 1))
    with pytest.raises(ValueError, match="8 slides are too few for a group and 6 covariates"):
        intervals(values, design(group, np.random.default_rng(8).normal(size=(8, 6))))
    two = np.repeat([0, 1], 4)
    with pytest.raises(ValueError, match="2 patients are too few"):
        intervals(values, design(two.astype(float), patients=two))
