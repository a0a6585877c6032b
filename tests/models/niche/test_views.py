"""What teacher and student see, against a search of all cells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdistill._training.sampling import BatchRequest
from stdistill.models.niche import views as views_module
from stdistill.models.niche.batches import Neighborhoods, TokenBatch, Tokens
from stdistill.models.niche.views import DROPPED, LOCAL_RADIUS, N_LOCAL, ViewDataset, drop_tokens, uniform


def seen(data: Neighborhoods, batch: TokenBatch) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Cell, tokens' cells and their offsets of each centre, told from a first column that numbers the cells."""
    numbers = batch.features[:, 0].numpy().astype(int)
    found: list = [None] * len(batch.centers)
    for block in batch.blocks:
        for row, offsets, mask, where in zip(
            *map(np.asarray, (block.rows, block.offsets, block.mask, block.where)), strict=True
        ):
            found[where] = (int(batch.centers[where]), numbers[row[mask]], offsets[mask])
    return found


@pytest.fixture
def data(make_neighborhoods: Callable[..., Neighborhoods]) -> Neighborhoods:
    data = make_neighborhoods(300)
    data.features[:, 0] = np.arange(300)
    return data


def request(cells: np.ndarray, epoch: int = 0, rank: int = 0) -> BatchRequest:
    return BatchRequest(cells, (0, epoch, 0, rank))


def test_teacher_sees_whole_neighborhoods(data: Neighborhoods) -> None:
    for cell, cells, _ in seen(data, ViewDataset(data)[request(np.arange(40))].whole):
        distance = np.hypot(*(data.centers - data.centers[cell]).T)
        assert set(cells) == set(np.flatnonzero(distance <= data.radius_um))


def test_local_views_are_discs_around_places_near_the_cell(
    data: Neighborhoods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views_module, "DROPPED", 0.0)
    views = seen(data, ViewDataset(data)[request(np.arange(60))].parts)
    assert len(views) == 60 * (1 + N_LOCAL)
    shifts = []
    for number, (cell, cells, offsets) in enumerate(views):
        place = data.centers[cells] - offsets * data.radius_um
        np.testing.assert_allclose(place, place[:1].repeat(len(place), axis=0), atol=1e-3)
        shifts.append(np.hypot(*(place[0] - data.centers[cell])) / data.radius_um)
        distance = np.hypot(*(data.centers - place[0]).T) / data.radius_um
        limit = 1.0 if number < 60 else LOCAL_RADIUS
        assert (
            set(np.flatnonzero(distance < limit - 1e-4)) <= set(cells) <= set(np.flatnonzero(distance < limit + 1e-4))
        )
    assert np.allclose(shifts[:60], 0, atol=1e-5)
    assert 0.15 < np.max(shifts[60:]) <= 1 - LOCAL_RADIUS + 1e-5
    # Evenly over a disc: two thirds of its radius on average.
    assert np.mean(shifts[60:]) == pytest.approx(2 / 3 * (1 - LOCAL_RADIUS), rel=0.1)
    assert len(np.unique(np.round(shifts[60:], 6))) == 60 * N_LOCAL


def test_most_tokens_are_dropped(data: Neighborhoods) -> None:
    views = ViewDataset(data)[request(np.arange(200))]
    whole = sum(len(cells) for _, cells, _ in seen(data, views.whole))
    kept = sum(len(cells) for _, cells, _ in seen(data, views.parts)[:200])
    assert kept / whole == pytest.approx(1 - DROPPED, abs=0.03)


@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=20), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_no_view_is_empty(counts: list[int], share: float, seed: int) -> None:
    center = np.repeat(np.arange(len(counts)), counts)
    tokens = Tokens(np.arange(len(counts)), center, np.arange(len(center)), np.zeros((len(center), 2), np.float32))
    kept = drop_tokens(tokens, share, (seed,))
    assert set(kept.center) == set(range(len(counts)))
    if share == 0:
        assert len(kept.cells) == len(center)


def test_views_depend_on_seed_epoch_and_cell_alone(data: Neighborhoods) -> None:
    views = ViewDataset(data)
    cells = np.arange(50)
    both = seen(data, views[request(cells)].parts)
    again = seen(data, views[request(cells[:20], rank=1)].parts)
    other = seen(data, views[request(cells, epoch=1)].parts)
    for view in range(1 + N_LOCAL):
        for place in range(20):
            for one, two in zip(both[50 * view + place], again[20 * view + place], strict=True):
                np.testing.assert_array_equal(one, two)
    assert any(len(one[1]) != len(two[1]) for one, two in zip(both, other, strict=True))


def test_uniform() -> None:
    cells = np.arange(100_000)
    numbers = uniform((0, 1), cells)
    assert 0 <= numbers.min() < numbers.max() < 1
    assert np.histogram(numbers, 10, (0, 1))[0] == pytest.approx(10_000, rel=0.05)
    for other in (uniform((0, 2), cells), uniform((0, 1), cells, cells), np.roll(numbers, 1)):
        assert abs(np.corrcoef(numbers, other)[0, 1]) < 0.02
    # A number of a pair of keys is not that of the pair turned round.
    assert (uniform((0,), cells[:9], cells[1:10]) != uniform((0,), cells[1:10], cells[:9])).all()
