from __future__ import annotations

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
