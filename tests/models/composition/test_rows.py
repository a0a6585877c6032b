from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

from stdistill.models.composition.rows import FeatureRows


def make(n: int = 30, seed: int = 0) -> tuple[list[np.ndarray], csr_matrix]:
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(n, d)).astype(dtype) for d, dtype in ((3, "float16"), (2, "float32"))]
    edges = np.triu(rng.random((n, n)) < 0.2, 1)
    return features, csr_matrix((edges | edges.T).astype(np.float32))


def test_side_by_side_in_the_order_asked_for() -> None:
    features, _ = make()
    rows = FeatureRows(features)
    assert rows.shape == (30, 5)
    read = rows[np.array([7, 2, 7])]
    assert read.dtype == np.float32
    assert_allclose(read, np.hstack(features)[[7, 2, 7]].astype(np.float32))


def test_a_row_without_features_of_one_encoder_has_none() -> None:
    features, _ = make()
    features[0][4], features[1][[4, 9], 1] = np.nan, np.nan
    rows = FeatureRows(features)
    assert np.flatnonzero(~rows.known).tolist() == [4, 9]
    assert rows.n_known == [29, 28]


def test_mean_of_the_neighbourhood() -> None:
    """Itself and its neighbours, those without features left out: worked out row by row."""
    features, graph = make()
    features[1][5] = np.nan
    rows = FeatureRows(features, graph)
    assert rows.shape == (30, 10)
    together = np.hstack(features).astype(np.float32)
    some = np.array([11, 0, 29, 3])
    for row, found in zip(some, rows[some], strict=True):
        around = [row, *(j for j in graph[row].indices if j != 5)]
        assert_allclose(found[:5], together[row], rtol=1e-6)
        assert_allclose(found[5:], together[around].mean(axis=0), rtol=1e-5, atol=1e-6)


def test_without_neighbours_the_mean_is_its_own() -> None:
    features, _ = make(4)
    rows = FeatureRows(features, csr_matrix((4, 4), dtype=np.float32))
    read = rows[np.arange(4)]
    assert_allclose(read[:, :5], read[:, 5:])


def test_infinite_features() -> None:
    features, _ = make(4)
    features[0][1, 1] = np.inf
    with pytest.raises(ValueError, match="infinite"):
        FeatureRows(features)
