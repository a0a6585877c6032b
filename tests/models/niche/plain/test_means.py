"""Means of neighbourhoods, against means taken cell by cell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.plain import means
from stdistill.models.niche.plain.means import Scale, find_scale, means_by_part, neighborhood_means, read_means

PLAIN = Scale(torch.zeros(5), torch.ones(5))


@pytest.fixture
def data(make_neighborhoods: Callable[..., Neighborhoods]) -> Neighborhoods:
    return make_neighborhoods(300)


def around(data: Neighborhoods, cell: int) -> np.ndarray:
    cells = np.array([cell, *data.indices[data.indptr[cell] : data.indptr[cell + 1]]])
    return data.features[cells[data.known[cells]]].mean(axis=0)


def test_means_of_a_batch(data: Neighborhoods) -> None:
    cells = np.array([7, 3, 200, 41])
    batch = data.batch(data.tokens(cells))
    found = neighborhood_means(batch, batch.features)
    for row, cell in zip(found, cells, strict=True):
        np.testing.assert_allclose(row, around(data, cell), rtol=1e-4, atol=1e-5)


def test_cells_without_features_do_not_count(make_neighborhoods: Callable[..., Neighborhoods]) -> None:
    features = np.random.default_rng(1).normal(size=(200, 5)).astype(np.float32)
    features[::3] = np.nan
    data = make_neighborhoods(200, features=features)
    cells = np.flatnonzero(data.known)
    found = read_means(data, cells, PLAIN)
    np.testing.assert_allclose(found, [around(data, cell) for cell in cells], rtol=1e-4, atol=1e-5)


def test_parts_are_the_whole(data: Neighborhoods, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = np.random.default_rng(0).permutation(300)
    whole = read_means(data, cells, PLAIN)
    monkeypatch.setattr(means, "CELLS_AT_ONCE", 64)
    parts = list(means_by_part(data, cells, PLAIN))
    assert [len(part) for part, _ in parts] == [64] * 4 + [44]
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), cells)
    np.testing.assert_array_equal(np.concatenate([found for _, found in parts]), whole)


def test_the_scale_is_that_of_the_training(data: Neighborhoods) -> None:
    """Of features of any unit, also where one does not vary; what is far outside is clipped."""
    data.features[:] = data.features * [1, 10, 0.01, 1, 1] + [0, 500, -3, 0, 0]
    data.features[:, 4] = 7
    training = np.arange(200)
    scale = find_scale(data, training)
    values = data.features[training]
    np.testing.assert_allclose(scale.mean, values.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scale.spread[:4], values[:, :4].std(axis=0), rtol=1e-4)
    before = read_means(data, training[:50], scale)
    data.features[299] = 1e9
    assert np.abs(read_means(data, training[:50], scale)).max() < 100
    assert np.isfinite(before).all()


def test_nothing_to_tell_apart(make_neighborhoods: Callable[..., Neighborhoods]) -> None:
    data = make_neighborhoods(50, features=np.ones((50, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="All 50 training cells have the same features"):
        find_scale(data, np.arange(50))
