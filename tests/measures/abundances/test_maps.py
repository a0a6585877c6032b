from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stdistill._measures.abundances.maps import Diagonal, compare_maps

TRUTH = np.array([[0.9, 0.3, -0.4], [0.3, 0.8, 0.0], [-0.4, 0.0, 0.7]])


def symmetric(t: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, 0.2, (t, t))
    return values + values.T


def test_by_hand() -> None:
    predicted = np.array([[0.5, 0.4, 0.3], [0.4, 0.5, 0.0], [0.3, 0.0, 0.5]])
    without = compare_maps(TRUTH, predicted, "exclude")
    # Rows (.3, -.4) and (.4, .3) stand at right angles; (.3, 0) and (.4, 0) point the same way.
    assert without.cosine.tolist() == pytest.approx([0, 1, -1], abs=1e-12)
    assert without.correlation.tolist() == pytest.approx([1, 1, -1])
    one = compare_maps(TRUTH, predicted, "one")
    assert one.cosine[0] == pytest.approx(1 / 1.25)
    assert one.cosine[1] == pytest.approx((1 + 0.12) / np.sqrt(1.09 * 1.16))
    computed = compare_maps(TRUTH, predicted, "computed")
    assert computed.cosine[1] == pytest.approx((0.4 + 0.12) / np.sqrt(0.73 * 0.41))
    assert computed.correlation[1] == pytest.approx(np.corrcoef(TRUTH[1], predicted[1])[0, 1])
    assert not without.undefined.any()


@settings(max_examples=50, deadline=None)
@given(t=st.integers(4, 12), seed=st.integers(0, 1000), factor=st.floats(0.1, 10))
def test_row_by_row(t: int, seed: int, factor: float) -> None:
    a, b = symmetric(t, seed), symmetric(t, seed + 1)
    found = compare_maps(a, factor * b, "exclude")
    for row in range(t):
        x, y = np.delete(a[row], row), np.delete(b[row], row)
        assert found.cosine[row] == pytest.approx(x @ y / np.sqrt(x @ x * (y @ y)))
        assert found.correlation[row] == pytest.approx(np.corrcoef(x, y)[0, 1])
    np.testing.assert_allclose(compare_maps(a, factor * a, "exclude").cosine, 1)
    np.testing.assert_allclose(compare_maps(a, -a, "computed").correlation, -1)


def test_ones_on_the_diagonal_make_the_comparison_blind() -> None:
    """A map that says nothing scores high with them, and 0 without."""
    truth = symmetric(22, 0) / 4
    nothing = np.full((22, 22), np.nan)
    assert (compare_maps(truth, nothing, "exclude").cosine == 0).all()
    assert (compare_maps(truth, nothing, "exclude").correlation == 0).all()
    one = compare_maps(truth, nothing, "one")
    assert one.cosine.mean() > 0.9
    assert one.correlation.mean() > 0.9
    np.testing.assert_allclose(compare_maps(truth, -truth, "exclude").cosine, -1)
    assert compare_maps(truth, -truth, "one").cosine.mean() > 0.5  # all signs wrong


@pytest.mark.parametrize("diagonal", get_args(Diagonal))
def test_a_constant_type_of_the_prediction_scores_nothing(diagonal: Diagonal) -> None:
    truth, predicted = symmetric(6, 0), symmetric(6, 0)
    predicted[2] = predicted[:, 2] = np.nan
    found = compare_maps(truth, predicted, diagonal)
    assert found.undefined.tolist() == [False, False, True, False, False, False]
    if diagonal != "one":
        assert found.cosine[2] == found.correlation[2] == 0
    assert (found.cosine[[0, 1, 3, 4, 5]] < 1).all()  # the pairs that are lacking count
    assert np.isfinite(found.correlation).all()


@pytest.mark.parametrize("diagonal", get_args(Diagonal))
def test_a_constant_type_of_the_truth_is_left_out(diagonal: Diagonal) -> None:
    truth, predicted = symmetric(6, 0), symmetric(6, 1)
    others = np.delete(np.arange(6), 2)
    expected = compare_maps(truth[np.ix_(others, others)], predicted[np.ix_(others, others)], diagonal)
    truth[2] = truth[:, 2] = np.nan
    found = compare_maps(truth, predicted, diagonal)
    assert np.isnan(found.cosine[2])
    assert np.isnan(found.correlation[2])
    np.testing.assert_allclose(found.cosine[others], expected.cosine)
    np.testing.assert_allclose(found.correlation[others], expected.correlation)
    assert not found.undefined.any()


def test_two_types_have_one_pair() -> None:
    found = compare_maps(TRUTH[:2, :2], TRUTH[:2, :2], "exclude")
    assert found.cosine.tolist() == pytest.approx([1, 1])
    assert np.isnan(found.correlation).all()


def test_even_rows_do_not_correlate() -> None:
    even = np.full((5, 5), 0.1)
    found = compare_maps(symmetric(5, 0), even, "exclude")
    assert (found.correlation == 0).all()
    assert (found.cosine != 0).all()
    assert np.isnan(compare_maps(even, symmetric(5, 0), "exclude").correlation).all()
