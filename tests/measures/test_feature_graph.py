"""The search for cells with similar features, by brute force; what is made of it is tested with sd.tl.leiden."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from stdistill._measures.feature_graph import NeighborSearch


def test_neighbours_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    features, others = (rng.normal(size=(n, 4)).astype(np.float32) for n in (150, 40))
    search = NeighborSearch(len(features), 10, seed=0)
    graph = search.fit_transform(features)
    nearest = np.argsort(cdist(features, features), axis=1, kind="stable")
    for cell in range(len(features)):
        assert set(nearest[cell, :10]) <= set(graph[cell].indices) | {cell}
    expected = np.argsort(cdist(others, features), axis=1)[:, :10]
    np.testing.assert_array_equal(np.sort(search.nearest(others), axis=1), np.sort(expected, axis=1))
    assert search.get_params()["n_neighbors"] == 10
