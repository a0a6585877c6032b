from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA

from stdistill._measures.alignment.expression import fit_expression_components, log_expression, most_variable


def test_scaled_to_the_median_of_the_training_by_hand() -> None:
    counts = csr_matrix(np.array([[1, 1], [6, 0], [2, 2], [100, 300]], dtype=np.float32))
    found = log_expression(counts, np.array([0, 1, 2])).toarray()  # totals 2, 6, 4: the median is 4
    np.testing.assert_allclose(found, np.log1p([[2, 2], [4, 0], [2, 2], [1, 3]]))
    assert counts.max() == 300  # is left as it was


def test_tiles_without_counts() -> None:
    counts = csr_matrix(np.array([[0, 0], [2, 2], [0, 8]]))
    found = log_expression(counts, np.array([0, 1, 2])).toarray()
    np.testing.assert_allclose(found, np.log1p([[0, 0], [3, 3], [0, 6]]))  # the median of those that have any
    assert log_expression(csr_matrix((2, 3)), np.array([0, 1])).nnz == 0


def test_depth_says_nothing() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(5, (20, 4)) + 1
    depth = rng.integers(1, 9, (20, 1))
    training = np.arange(20)
    one, other = (log_expression(csr_matrix(each), training).toarray() for each in (counts, counts * depth))
    ratio = np.expm1(other) / np.expm1(one)
    np.testing.assert_allclose(ratio, ratio[0, 0])


def test_most_variable_of_the_training_alone() -> None:
    values = np.array([[0, 0, 1, 5], [1, 9, 1, 5], [0, 0, 1, 5], [0, 0, 90, 5]], dtype=float)
    assert most_variable(csr_matrix(values), np.array([0, 1, 2]), 3).tolist() == [0, 1]
    assert most_variable(csr_matrix(values), np.arange(4), 2).tolist() == [1, 2]


def test_components_are_those_of_dense_values() -> None:
    rng = np.random.default_rng(0)
    values = rng.poisson(1, (60, 12)).astype(float)
    training = np.arange(40)
    found = fit_expression_components(csr_matrix(values), training, 4).project(csr_matrix(values))
    expected = PCA(4, svd_solver="full").fit(values[training]).transform(values)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-8)
    again = fit_expression_components(csr_matrix(values), training, 4).project(csr_matrix(values))
    np.testing.assert_array_equal(found, again)


def test_as_many_components_as_there_can_be() -> None:
    values = csr_matrix(np.random.default_rng(0).poisson(1, (30, 5)).astype(float))
    assert fit_expression_components(values, np.arange(30), 32).axes.shape == (5, 4)
    assert fit_expression_components(values, np.arange(3), 32).axes.shape == (5, 2)
    with pytest.raises(ValueError, match="Expression of 1 training tiles and 5 genes has no axes"):
        fit_expression_components(values, np.arange(1), 32)
