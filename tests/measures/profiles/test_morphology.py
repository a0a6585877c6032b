from __future__ import annotations

import numpy as np
import pytest

from stdistill._measures.labels import Labels
from stdistill._measures.profiles.morphology import compare_measures, sample_of_each, weighted_quantiles


def test_by_hand() -> None:
    labels = Labels(np.array([0, 0, 0, 1, 1, 1]), ["a", "b"])
    found = compare_measures({"area": np.array([1.0, 2, 3, 7, 8, 9])}, labels, np.arange(6)).set_index("niche")
    assert found["median"].tolist() == [2, 8]
    assert found["lower"].tolist() == [1.5, 7.5]
    assert found["n_cells"].tolist() == [3, 3]
    row = found.loc["a"]
    assert row["slide_lower"] == 2
    assert row["slide_median"] == 3
    assert row["slide_upper"] == 8
    assert row["difference"] == pytest.approx((2 - 3) / 6)


def test_what_could_not_be_measured_is_left_out() -> None:
    labels = Labels(np.array([0, 0, 1]), ["a", "b"])
    values = {"area": np.array([1.0, np.nan, np.nan]), "solidity": np.full(3, np.nan)}
    found = compare_measures(values, labels, np.arange(3))
    assert found[["niche", "measure", "n_cells"]].to_numpy().tolist() == [["a", "area", 1]]
    assert np.isnan(found["difference"].iloc[0])  # a slide of one value has no spread


def test_a_large_niche_counts_by_its_size_in_what_is_of_the_slide() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], [9000, 1000])
    values = rng.normal(np.where(codes == 0, 10, 20), 1)
    labels = Labels(codes, ["large", "small"])
    rows = sample_of_each(labels, 500, seed=0)
    assert np.bincount(codes[rows]).tolist() == [500, 500]
    found = compare_measures({"area": values[rows]}, labels, rows)
    assert found["slide_median"].iloc[0] == pytest.approx(np.median(values), abs=0.2)


def test_weighted_quantiles_are_those_of_repeated_values() -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=101), rng.integers(1, 5, 101)
    repeated = np.repeat(values, weights)
    expected = np.quantile(repeated, (0.25, 0.5, 0.75), method="inverted_cdf")
    np.testing.assert_allclose(weighted_quantiles(values, weights.astype(float)), expected)


def test_the_sample_is_all_of_a_small_niche_and_repeatable() -> None:
    labels = Labels(np.array([0] * 50 + [1] * 5 + [-1] * 5), ["a", "b"])
    rows = sample_of_each(labels, 10, seed=3)
    assert (np.sort(rows) == rows).all()
    assert set(range(50, 55)) <= set(rows)
    assert rows.max() < 55
    assert (rows == sample_of_each(labels, 10, seed=3)).all()
