"""Cells connected by their features: beside scikit-learn, and what a vote is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from stdistill._measures import feature_graph
from stdistill._measures.feature_graph import FeatureGraph, NeighborSearch


def blobs(n: int = 150, n_blobs: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Groups of very different sizes, far apart."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.choice(n_blobs, n, p=np.arange(1, n_blobs + 1) / np.arange(1, n_blobs + 1).sum()))
    return (rng.normal(size=(n, 4)) + 30 * np.eye(n_blobs, 4)[labels]).astype(np.float32), labels


def test_neighbours_by_brute_force() -> None:
    features, _ = blobs()
    others, _ = blobs(40, seed=1)
    search = NeighborSearch(len(features), 10, seed=0)
    graph = search.fit_transform(features)
    nearest = np.argsort(cdist(features, features), axis=1, kind="stable")
    for cell in range(len(features)):
        assert set(nearest[cell, :10]) <= set(graph[cell].indices) | {cell}
    expected = np.argsort(cdist(others, features), axis=1)[:, :10]
    np.testing.assert_array_equal(np.sort(search.nearest(others), axis=1), np.sort(expected, axis=1))
    assert search.get_params()["n_neighbors"] == 10


def test_groups_are_found_and_numbered_by_size() -> None:
    features, labels = blobs()
    graph = FeatureGraph(features, 10, seed=0)
    assert graph.n_components == 3
    found = graph.communities(0.05)
    assert adjusted_rand_score(found, labels) == 1
    sizes = np.bincount(found)
    assert (np.diff(sizes) <= 0).all()
    np.testing.assert_array_equal(graph.communities(0.05), found)
    assert len(np.unique(graph.communities(2.0))) > 3


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_no_fewer_communities_than_parts(scale: float) -> None:
    features, _ = blobs()
    assert FeatureGraph(features * np.float32(scale), 10, seed=0).communities(1e-6).max() + 1 == 3


def test_a_vote_is_the_majority_of_the_nearest() -> None:
    """Of a tie it is the first label."""
    features, _ = blobs()
    others, _ = blobs(60, seed=2)
    labels = np.random.default_rng(3).integers(0, 4, len(features))
    found = FeatureGraph(features, 8, seed=0).vote(others, labels)
    for cell, place in enumerate(np.argsort(cdist(others, features), axis=1)[:, :8]):
        votes = np.bincount(labels[place], minlength=4)
        assert found[cell] == votes.argmax()


def test_the_approximate_search_finds_the_same_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond some thousands of cells; with one seed it gives the same every time."""
    monkeypatch.setattr(feature_graph, "EXACT_UP_TO", 10)
    features, labels = blobs(120)
    first, second = (FeatureGraph(features, 10, seed=0) for _ in range(2))
    assert adjusted_rand_score(first.communities(0.05), labels) == 1
    np.testing.assert_array_equal(first.communities(1.0), second.communities(1.0))
    assert adjusted_rand_score(first.vote(features, labels), labels) == 1
