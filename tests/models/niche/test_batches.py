from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from stdistill.models.niche.batches import Neighborhoods, TokenBatch, Tokens, merge_blocks


def neighbours(data: Neighborhoods, batch: TokenBatch) -> list[set[tuple[float, ...]]]:
    """What each centre of a batch sees: features and places, without the padding."""
    seen: list[set[tuple[float, ...]]] = [set() for _ in batch.centers]
    for block in batch.blocks:
        for where, rows, offsets, mask in zip(block.where, block.rows, block.offsets, block.mask, strict=True):
            tokens = torch.cat([batch.features[rows[mask]], offsets[mask]], dim=1)
            assert not seen[int(where)]
            seen[int(where)] = {tuple(token.tolist()) for token in tokens}
    return seen


def test_tokens_are_all_cells_within_the_radius(make_neighborhoods: Callable[..., Neighborhoods]) -> None:
    data = make_neighborhoods()
    cells = np.array([7, 3, 150])
    tokens = data.tokens(cells)
    tree = cKDTree(data.centers)
    for number, cell in enumerate(cells):
        own = tokens.center == number
        assert set(tokens.cells[own]) == set(tree.query_ball_point(data.centers[cell], data.radius_um))
        expected = (data.centers[tokens.cells[own]] - data.centers[cell]) / data.radius_um
        np.testing.assert_allclose(tokens.offsets[own], expected, atol=1e-6)


def test_batch_holds_every_token_and_each_cell_once(make_neighborhoods: Callable[..., Neighborhoods]) -> None:
    data = make_neighborhoods()
    cells = np.random.default_rng(0).permutation(200)[:90]
    batch = data.batch(data.tokens(cells))
    assert batch.centers.tolist() == cells.tolist()
    assert len(batch.features) == len(np.unique(batch.features, axis=0))
    for cell, seen in zip(cells, neighbours(data, batch), strict=True):
        tokens = data.tokens(np.array([cell]))
        expected = np.column_stack([data.features[tokens.cells], tokens.offsets])
        assert seen == {tuple(map(float, token)) for token in expected}


def test_little_padding(make_neighborhoods: Callable[..., Neighborhoods]) -> None:
    data = make_neighborhoods(2000, extent=1200.0)
    batch = data.batch(data.tokens(np.arange(512)))
    padded = sum(block.mask.numel() for block in batch.blocks)
    assert padded < 1.15 * sum(int(block.mask.sum()) for block in batch.blocks)


@pytest.mark.parametrize(("n_centers", "n_blocks"), [(1, 6), (16, 6), (17, 3), (40, 2), (1000, 1)])
def test_merged_blocks_say_the_same(
    make_neighborhoods: Callable[..., Neighborhoods], make_network: Callable, n_centers: int, n_blocks: int
) -> None:
    data, network = make_neighborhoods(96), make_network()
    batch = data.batch(data.tokens(np.arange(96)))
    merged = replace(batch, blocks=tuple(merge_blocks(batch.blocks, n_centers)))
    assert len(merged.blocks) == n_blocks
    assert sum(int(block.mask.sum()) for block in merged.blocks) == sum(int(each.mask.sum()) for each in batch.blocks)
    with torch.inference_mode():
        torch.testing.assert_close(network(merged), network(batch))


def test_cells_without_features(make_neighborhoods: Callable[..., Neighborhoods]) -> None:
    features = np.ones((50, 2), dtype=np.float16)
    features[10:20, 1] = np.nan
    data = make_neighborhoods(50, features=features)
    tokens = data.tokens(np.arange(50))
    assert set(tokens.cells) == set(range(50)) - set(range(10, 20))
    assert data.batch(tokens).features.isfinite().all()


def test_cell_without_neighbours() -> None:
    empty = np.zeros(3, dtype=np.int32)
    data = Neighborhoods(np.ones((2, 3)), empty, empty[:0], np.array([[0.0, 0], [100, 0]]), 10.0)
    tokens = data.tokens(np.array([1, 0]))
    assert tokens.cells.tolist() == [1, 0]
    assert (tokens.offsets == 0).all()


def test_views_of_a_smaller_radius_at_shifted_places(make_neighborhoods: Callable[..., Neighborhoods]) -> None:
    """As long as a shift is at most a quarter of the radius, a view of three quarters sees all there is."""
    data = make_neighborhoods(400)
    rng = np.random.default_rng(0)
    cells = np.arange(100)
    angle, length = rng.uniform(0, 2 * np.pi, 100), rng.uniform(0, 0.25, 100) * data.radius_um
    positions = data.centers[cells] + length[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    tokens = data.tokens(cells, positions=positions, radius_share=0.75)
    tree = cKDTree(data.centers)
    for number, position in enumerate(positions):
        own = tokens.cells[tokens.center == number]
        assert set(own) == set(tree.query_ball_point(position, 0.75 * data.radius_um))
    expected = (data.centers[tokens.cells] - positions[tokens.center]) / data.radius_um
    np.testing.assert_allclose(tokens.offsets, expected, atol=1e-6)


def test_nearest_tokens(make_neighborhoods: Callable[..., Neighborhoods]) -> None:
    whole, data = make_neighborhoods(), make_neighborhoods(max_tokens=4)
    cells = np.arange(200)
    tokens = data.tokens(cells)
    distances, nearest = cKDTree(data.centers).query(data.centers, 4, distance_upper_bound=data.radius_um)
    for cell in cells:
        assert set(tokens.cells[tokens.center == cell]) == set(nearest[cell][np.isfinite(distances[cell])])
    capped = np.bincount(whole.tokens(cells).center) > 4
    assert data.share_capped(cells) == pytest.approx(capped.mean())
    assert 0 < capped.mean() < 1
    assert whole.share_capped(cells) == 0


def test_filtered_and_joined_views(make_neighborhoods: Callable[..., Neighborhoods], make_network: Callable) -> None:
    data, network = make_neighborhoods(), make_network()
    cells = np.array([5, 6])
    first = data.tokens(cells)
    fewer = first.keep(np.arange(len(first.cells)) % 2 == 0)
    both = data.batch(Tokens.concatenate([first, fewer]))
    assert both.centers.tolist() == [5, 6, 5, 6]
    assert len(both.features) == len(np.unique(first.cells))
    with torch.inference_mode():
        expected = torch.cat([network(data.batch(first)), network(data.batch(fewer))])
        torch.testing.assert_close(network(both), expected, atol=1e-5, rtol=1e-5)


def test_same_batch_from_array_memory_map_and_tensor(
    make_neighborhoods: Callable[..., Neighborhoods], tmp_path: Path
) -> None:
    features = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float16)
    np.save(tmp_path / "features.npy", features)
    sources = (features, np.load(tmp_path / "features.npy", mmap_mode="r"), torch.from_numpy(features))
    batches = []
    for source in sources:
        data = make_neighborhoods(features=source)
        batches.append(data.batch(data.tokens(np.arange(30))))
    for batch in batches[1:]:
        assert batch.features.dtype == torch.float16
        assert torch.equal(batch.features, batches[0].features)


def test_to_a_device(make_neighborhoods: Callable[..., Neighborhoods]) -> None:
    data = make_neighborhoods()
    batch = data.batch(data.tokens(np.arange(30)))
    moved = batch.to("meta")
    assert {moved.features.device.type, moved.centers.device.type, moved.blocks[0].mask.device.type} == {"meta"}
    assert len(moved.blocks) == len(batch.blocks)
