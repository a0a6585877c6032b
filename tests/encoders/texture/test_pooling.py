"""Averages of maps over crops: what has a weight, how much, and how precisely."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stdistill.encoders._texture.crops import CENTRE_SHARE
from stdistill.encoders._texture.maps import Map
from stdistill.encoders._texture.pooling import Canvas, Crops, MiddleAverages, Weights, to_blocks


def places(*origins: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(origins, dtype=torch.float64)


@pytest.mark.parametrize(("side", "block"), [(160, 8), (224, 8), (288, 16), (448, 16), (576, 32)])
def test_blocks_are_a_small_part_of_a_crop(side: int, block: int) -> None:
    assert Crops(places((0, 0)), side).block_px == block


def test_blocks_by_hand() -> None:
    maps = torch.arange(16.0).view(1, 4, 4)
    assert to_blocks(maps, 2).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    assert to_blocks(maps[:, :2, :2], 1 / 2)[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [4, 4, 5, 5], [4, 4, 5, 5]]


@pytest.mark.parametrize("reach", [0, 14, 44])
@pytest.mark.parametrize("origin", [(0, 0), (37, 18), (90.3, 61.9)])
def test_only_blocks_within_the_crop_count(reach: int, origin: tuple[float, float]) -> None:
    """Of a block, all must be so far from the edge as the map sees, and a pixel more, where it was resampled."""
    crops = Crops(places(origin), 160)
    blocks = torch.zeros(40, 40, 1)
    edges = np.arange(40) * 8
    allowed = [(edges >= at + reach + 1) & (edges + 8 <= at + 160 - reach - 1) for at in (origin[1], origin[0])]
    blocks[~torch.from_numpy(np.outer(*allowed))] = 1e6
    assert crops.pool(blocks, reach).abs().max() == 0


def test_the_mean_and_the_window_by_hand() -> None:
    """Of a slope, both are the value at the centre; of its square, the variance of each comes on top."""
    side, blocks_px, centre = 224, 8, 37.25 + 112
    middles = (torch.arange(60) + 0.5) * blocks_px
    slope = middles[None, :].expand(60, 60)
    pooled = Crops(places((37.25, 64)), side).pool(torch.stack([slope, slope.square()], dim=2), 0)[0]
    assert pooled[:, 0].tolist() == pytest.approx([centre, centre], abs=0.5)
    within = side - 2 * 9
    cut = within / 2 / (CENTRE_SHARE * side)
    density = np.exp(-(cut**2) / 2) / np.sqrt(2 * np.pi)
    share = torch.erf(torch.tensor(cut / 2**0.5)).item()
    of_gaussian = (CENTRE_SHARE * side) ** 2 * (1 - 2 * cut * density / share)
    variances = pooled[:, 1] - pooled[:, 0].square()
    assert variances.tolist() == pytest.approx([within**2 / 12, of_gaussian], rel=0.02)


def test_sums_are_precise_in_a_large_window() -> None:
    """A running sum over it in float32 would lose the differences of neighbouring crops."""
    rng = np.random.default_rng(0)
    blocks = (1000 + rng.random((1000, 1000, 1))).astype(np.float32)
    corner = 8 * 960
    found = Crops(places((corner, corner)), 224).pool(torch.from_numpy(blocks), 0)[0, 0, 0]
    weights = np.zeros(1000)
    low, high = corner + 9, corner + 224 - 9
    edges = np.clip(np.arange(1001) * 8, low, high)
    weights = np.diff(edges) / (high - low)
    assert float(found) == pytest.approx(weights @ blocks[..., 0].astype(float) @ weights, abs=1e-3)


def test_tiles_make_a_canvas() -> None:
    """Each adds what lies within its halo, at the pitch of the map."""
    values = torch.arange(64.0 * 64).view(1, 1, 64, 64)
    canvas = Canvas(64, 64, 8)
    for top in (0, 32):
        for left in (0, 32):
            tile = torch.full((1, 1, 48, 48), torch.nan)
            tile[..., 8:40, 8:40] = values[..., top : top + 32, left : left + 32]
            canvas.tile((top, left), 8, 1)(Map("own", tile, 1, 0))
            halved = to_blocks(tile[0], 2)[None]
            canvas.tile((top, left), 8, 1)(Map("halved", halved, 2, 0))
    expected = to_blocks(values[0], 8)[0]
    for name in ("own", "halved"):
        torch.testing.assert_close(canvas.blocks[name][..., 0], expected)


def test_maps_that_reach_differently_stand_under_their_names() -> None:
    canvas = Canvas(256, 256, 8)
    for name, value, reach in (("a", 1.0, 0), ("b", 2.0, 14), ("c", 3.0, 0)):
        canvas.tile((0, 0), 0, 1)(Map(name, torch.full((1, 2, 256, 256), value), 1, reach))
    pooled = canvas.pool(Crops(places((3, 5), (20, 20)), 160))
    for name, value in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        torch.testing.assert_close(pooled[name], torch.full((2, 2, 2), value))


def test_middles_lie_within_their_crops() -> None:
    """And as near to the centre as whole pixels do."""
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    image = torch.stack([columns, rows])[None]
    origins = places((16, 40), (33.7, 51.2), (100, 200))
    middles = torch.cat(list(Crops(origins, 224).middles(image, 8, 14)))
    assert middles.shape == (3, 2, 23, 23)
    for (x, y), middle in zip(origins.tolist(), middles, strict=True):
        for at, pixels in ((x, middle[0]), (y, middle[1])):
            low, high = 8 * float(pixels.min()), 8 * float(pixels.max()) + 8
            assert low >= at + 15
            assert high <= at + 224 - 15
            assert abs((low + high) / 2 - (at + 112)) <= 4


def test_averages_of_middles_by_hand() -> None:
    averages = MiddleAverages(224, Weights())
    averages.add(Map("map", torch.arange(9.0).view(1, 1, 3, 3).repeat(2, 1, 1, 1), 8, 0))
    assert averages["map"].shape == (2, 2, 1)
    assert averages["map"].flatten().tolist() == pytest.approx([4.0] * 4)
