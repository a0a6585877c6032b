from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from stdistill._graph.radius_graph import radius_graph


def one_group(points: np.ndarray) -> np.ndarray:
    return np.zeros(len(points), dtype=np.int64)


def brute_force(points: np.ndarray, radius: float) -> np.ndarray:
    near = cdist(points, points, "sqeuclidean") <= radius**2
    np.fill_diagonal(near, False)
    return near


def check_same_as_brute_force(points: np.ndarray, radius: float) -> None:
    connectivities, distances = radius_graph(points, radius, one_group(points))
    near = brute_force(points, radius)
    np.testing.assert_array_equal(connectivities.toarray(), near)
    rows, columns = near.nonzero()
    np.testing.assert_array_equal(distances.indices, columns)
    np.testing.assert_array_equal(np.repeat(np.arange(len(points)), np.diff(distances.indptr)), rows)
    expected = np.linalg.norm(points[rows] - points[columns], axis=1)
    np.testing.assert_allclose(distances.data, expected, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 80),
    kind=st.sampled_from(["uniform", "lattice", "line", "few places", "far away"]),
    radius=st.sampled_from([0.5, 1.0, 2**0.5, 2.0, 3.7]),
    seed=st.integers(0, 1000),
)
def test_same_edges_as_brute_force(n: int, kind: str, radius: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-5, 5, (n, 2))
    if kind == "lattice":  # many ties at exactly the radius
        points = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), axis=-1).reshape(-1, 2)[:n]
    elif kind == "line":
        points[:, 1] = 2.0
    elif kind == "few places":
        points = rng.integers(0, 3, (n, 2)).astype(float)
    elif kind == "far away":
        points += 1e6
    check_same_as_brute_force(points, radius)


@pytest.mark.parametrize("scale", [1.0, 0.1, 1 / 3, 12.7])
def test_ties_are_decided_as_scipy_does(scale: float) -> None:
    points = scale * np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), axis=-1).reshape(-1, 2)
    radius = scale * 5  # pairs at (5, 0), (3, 4), (4, 3), … lie at exactly this distance
    connectivities, _ = radius_graph(points, radius, one_group(points))
    pairs = cKDTree(points).query_pairs(radius, output_type="ndarray")
    assert connectivities.nnz == 2 * len(pairs)
    assert (connectivities[pairs[:, 0], pairs[:, 1]] == 1).all()


def test_groups_are_not_joined_and_negative_ones_have_no_edges() -> None:
    points = np.random.default_rng(0).uniform(0, 10, (300, 2))
    groups = np.random.default_rng(1).integers(-1, 3, 300)
    connectivities, distances = radius_graph(points, 2.0, groups)
    same = (groups[:, None] == groups) & (groups >= 0)[:, None]
    np.testing.assert_array_equal(connectivities.toarray(), brute_force(points, 2.0) & same)
    assert distances.nnz == connectivities.nnz


def test_form_of_the_matrices() -> None:
    points = np.random.default_rng(0).uniform(0, 10, (200, 2))
    connectivities, distances = radius_graph(points, 2.0, one_group(points))
    for matrix in (connectivities, distances):
        assert matrix.dtype == np.float32
        assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
        assert matrix.has_canonical_format
        assert (matrix != matrix.T).nnz == 0
        assert matrix.diagonal().sum() == 0
    assert not np.shares_memory(connectivities.indices, distances.indices)
    assert not np.shares_memory(connectivities.indptr, distances.indptr)


def test_a_stray_point_far_away_costs_nothing() -> None:
    points = np.r_[np.random.default_rng(0).uniform(0, 100, (500, 2)), [[1e9, -1e9]]]
    check_same_as_brute_force(points, 10.0)


def test_many_bins_in_several_tasks() -> None:
    points = np.random.default_rng(0).uniform(0, 1e5, (6000, 2))
    connectivities, _ = radius_graph(points, 300.0, one_group(points))
    assert connectivities.nnz == 2 * len(cKDTree(points).query_pairs(300.0))


def test_a_radius_that_catches_everything() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (400, 2))
    with pytest.raises(
        ValueError, match=r"A radius of 1000 catches 100% of all pairs of cells \(399 neighbours each\)"
    ):
        radius_graph(points, 1000.0, one_group(points))


def test_more_edges_than_can_be_stored_are_refused_at_once() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (200_000, 2))
    with pytest.raises(ValueError, match=r"A radius of 1000 makes about 1\.4e\+10 edges"):
        radius_graph(points, 1000.0, one_group(points))


def test_a_handful_of_points_may_all_be_neighbors() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (20, 2))
    assert radius_graph(points, 10.0, one_group(points))[0].nnz == 20 * 19


def test_no_point_in_a_group() -> None:
    connectivities, _ = radius_graph(np.zeros((3, 2)), 1.0, np.full(3, -1))
    assert connectivities.shape == (3, 3)
    assert connectivities.nnz == 0


def test_a_radius_ten_times_too_large_is_refused_before_it_fills_the_memory() -> None:
    points = np.random.default_rng(0).uniform(0, 1000, (20_000, 2))
    with pytest.raises(ValueError, match=r"A radius of 300 makes about .* for each of 20000 cells; at most 6e\+07"):
        radius_graph(points, 300.0, one_group(points))
