from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from stdistill._training.sampling import TILE_SIZE, TileSampler, spatial_order


def batches(sampler: TileSampler, epoch: int = 0) -> list[np.ndarray]:
    sampler.set_epoch(epoch)
    return [request.rows for request in sampler]


def test_an_epoch_shows_each_cell_at_most_once() -> None:
    sampler = TileSampler(np.arange(1000), batch_size=64, seed=0)
    found = batches(sampler)
    assert len(found) == len(sampler) == 15
    assert {len(cells) for cells in found} == {64}
    assert len(np.unique(np.concatenate(found))) == 15 * 64


def test_every_cell_has_its_turn() -> None:
    sampler = TileSampler(np.arange(100), batch_size=64, seed=0)
    assert set(np.concatenate([cells for epoch in range(20) for cells in batches(sampler, epoch)])) == set(range(100))


def test_batches_are_tiles_from_all_over() -> None:
    (cells, *_) = batches(TileSampler(np.arange(10_000), batch_size=128, seed=0))
    runs = np.split(cells, np.flatnonzero(np.diff(cells) != 1) + 1)
    assert len(runs) <= 128 / TILE_SIZE + 1
    assert np.ptp(cells) > 5000


def test_epochs_differ_and_seeds_repeat() -> None:
    sampler, same = (TileSampler(np.arange(500), batch_size=32, seed=3) for _ in range(2))
    other = TileSampler(np.arange(500), batch_size=32, seed=4)
    np.testing.assert_array_equal(batches(sampler, 2), batches(same, 2))
    assert (np.array(batches(sampler, 2)) != batches(sampler, 1)).any()
    assert (np.array(batches(sampler, 2)) != batches(other, 2)).any()
    seeds = [request.seed for request in sampler]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_processes_share_the_steps_of_one(n_ranks: int) -> None:
    alone = batches(TileSampler(np.arange(1000), batch_size=64, seed=0), 5)
    shared = [
        batches(TileSampler(np.arange(1000), batch_size=64 // n_ranks, seed=0, rank=rank, n_ranks=n_ranks), 5)
        for rank in range(n_ranks)
    ]
    for together, *parts in zip(alone, *shared, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), together)


@pytest.mark.parametrize(("n", "n_ranks"), [(1, 1), (5, 1), (1, 2), (17, 4)])
def test_fewer_cells_than_a_batch(n: int, n_ranks: int) -> None:
    shares = [
        batches(TileSampler(np.arange(n), batch_size=64, seed=0, rank=r, n_ranks=n_ranks)) for r in range(n_ranks)
    ]
    assert {len(share) for share in shares} == {1}
    assert len({len(share[0]) for share in shares}) == 1
    assert len(np.unique(np.concatenate([share[0] for share in shares]))) >= min(n, n - n % n_ranks or n)


def test_spatial_order_keeps_neighbours_together() -> None:
    centers = np.random.default_rng(0).uniform(0, 1000, (5000, 2)) + np.array([1e6, -1e6])
    order = spatial_order(centers)
    assert sorted(order) == list(range(5000))
    tiles = centers[order][:4992].reshape(-1, 16, 2)
    assert np.median(np.ptp(tiles, axis=1).max(axis=1)) < 120  # 16 cells fill a square of 57 µm


def test_spatial_order_slide_by_slide() -> None:
    centers = np.random.default_rng(0).uniform(0, 100, (60, 2))
    libraries = np.arange(60) % 3
    assert (np.diff(libraries[spatial_order(centers, libraries)]) >= 0).all()


def test_spatial_order_of_one_place() -> None:
    assert spatial_order(np.ones((4, 2))).tolist() == [0, 1, 2, 3]


def test_the_rows_themselves_are_drawn_in_their_order() -> None:
    """Not their places: of some cells of a table, tiles are of what stands beside each other among these."""
    rows = np.array([50, 3, 17, 8, 90, 41, 2, 66] * 8) + 100 * np.repeat(np.arange(8), 8)
    found = batches(TileSampler(rows, batch_size=32, seed=0, tile_size=8))
    assert set(np.concatenate(found)) == set(rows)
    beside = {(a, b) for a, b in pairwise(rows)}
    drawn = [pair for cells in found for pair in pairwise(cells)]
    assert np.mean([pair in beside for pair in drawn]) > 0.8


def test_rows_one_by_one() -> None:
    """With tiles of one row nothing is kept together."""
    (cells,) = batches(TileSampler(np.arange(1000), batch_size=1000, seed=0, tile_size=1))
    assert sorted(cells) == list(range(1000))
    assert (np.diff(cells) == 1).mean() < 0.01


def test_what_is_left_over_is_another_each_time() -> None:
    sampler = TileSampler(np.arange(100), batch_size=64, seed=0)
    left = [frozenset(range(100)) - set(np.concatenate(batches(sampler, epoch))) for epoch in range(10)]
    assert {len(each) for each in left} == {36}
    assert len(set(left)) == 10


def morton(x: int, y: int) -> int:
    """Bits of both in turn, the lowest of x first."""
    return sum((x >> bit & 1) << 2 * bit | (y >> bit & 1) << 2 * bit + 1 for bit in range(16))


def test_spatial_order_by_bits() -> None:
    places = np.random.default_rng(0).integers(0, 0x10000, (300, 2))
    places[:2] = [[0, 0], [0xFFFF, 0xFFFF]]
    expected = sorted(range(300), key=lambda row: morton(*map(int, places[row])))
    assert spatial_order(places.astype(np.float64)).tolist() == expected
    assert spatial_order(np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])).tolist() == [0, 1, 2, 3]
