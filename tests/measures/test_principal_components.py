from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from stdistill._measures import principal_components
from stdistill._measures.principal_components import fit_components


@pytest.mark.parametrize("chunk", [7, 1000])
def test_as_scikit_learn(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """In chunks of any size, far from the origin, of half-precision features of some rows."""
    monkeypatch.setattr(principal_components, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(300, 5)) * [5, 4, 3, 2, 1] @ rng.normal(size=(5, 20)) + 100).astype(np.float16)
    rows = np.flatnonzero(rng.random(300) < 0.7)
    components = fit_components(features, rows, 4)
    expected = PCA(4, svd_solver="full").fit(features[rows].astype(np.float64))
    ours = components.project(features, np.arange(300))
    theirs = expected.transform(features.astype(np.float64))
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs, atol=0.02)
    assert (components.axes[np.abs(components.axes).argmax(axis=0), np.arange(4)] > 0).all()


def test_fewer_rows_than_features() -> None:
    features = np.random.default_rng(0).normal(size=(10, 30)).astype(np.float32)
    components = fit_components(features, np.arange(10), 20)
    projected = components.project(features, np.arange(10))
    assert projected.shape == (10, 20)
    assert np.isfinite(projected).all()
    distances = np.linalg.norm(features[0] - features[1:], axis=1)
    np.testing.assert_allclose(np.linalg.norm(projected[0] - projected[1:], axis=1), distances, rtol=1e-3)
