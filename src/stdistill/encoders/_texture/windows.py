"""Averages of maps over the crops of a whole window, every pixel of which is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stdistill.encoders._texture.filters import halve
from stdistill.encoders._texture.maps import (
    BLOB_SPACINGS,
    N_OCTAVES,
    Map,
    add_architecture,
    add_blobs,
    add_coarse_blobs,
    add_fluctuation,
    add_octave,
    coarser_octaves,
    with_square,
)
from stdistill.encoders._texture.pooling import Canvas, Crops, MiddleAverages, Weights, inside

GRID_PX = 64
"""Windows begin and end at multiples of this, so that a pixel lies in the same blocks whatever the window."""
N_FINE = 3
"""Octaves whose maps are made once for all crops. Those of coarser ones see far and are small: a crop has its own."""
N_FINE_BLOBS = 2
"""Likewise, of the sizes of blobs."""
TILE_CPU, TILE_GPU = 480, 4800
"""Side of what is computed at once, a multiple of 16: few enough pixels for the cache of a CPU; a whole window."""
LEVEL_HALO, HALF_HALO = 12, 24
"""How many pixels maps see beyond a tile of a level, and of half resolution, up to whole blocks of the coarsest."""


def window_averages(image: Tensor, crops: Crops, separate_stains: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Average the maps of a window (3, h, w), RGB, over each of its crops, by name: (n, 2, k)."""
    height, width = image.shape[1:]
    canvas = Canvas(height, width, crops.block_px)
    levels = [image[None], *(image.new_empty(1, 3, height >> octave, width >> octave) for octave in (1, 2, 3))]
    half = torch.empty_like(levels[1])
    magnitudes = image.new_empty(1, 2 * N_FINE, height >> N_FINE, width >> N_FINE)
    for octave in range(N_FINE):
        own = magnitudes[:, 2 * octave : 2 * octave + 2]
        for place, pixels in _tiles(levels[octave], LEVEL_HALO):
            tile = pixels if octave else separate_stains(pixels)
            if not octave:
                _put(half, halve(tile), place, LEVEL_HALO, 1)
            add = canvas.tile(place, LEVEL_HALO, 2**octave)
            lower, halved = add_octave(add, tile, octave, coarsest=N_FINE - 1)
            _put(levels[octave + 1], lower, place, LEVEL_HALO, 1)
            _put(own, halve(inside(halved, LEVEL_HALO >> (N_FINE - 1 - octave))), place, 0, N_FINE - octave)
    for place, tile in _tiles(half, HALF_HALO):
        add = canvas.tile(place, HALF_HALO, 2)
        add(Map("stain", tile, 2, 0))
        add(Map("stain_square", tile.square(), 2, 0))
        add_blobs(add, tile, N_FINE_BLOBS)
        add_architecture(add, tile)
    for octave, halved in enumerate(torch.split(magnitudes, 2, dim=1)):
        add_fluctuation(canvas.tile((0, 0), 0, 2**N_FINE), halved, octave, N_FINE)
    averages = canvas.pool(crops)
    averages["stain_variance"] = _variance(averages["stain"], averages.pop("stain_square"))
    return averages | _coarse_texture(crops, levels[N_FINE], magnitudes) | _coarse_blobs(crops, half)


def _variance(mean: Tensor, square: Tensor) -> Tensor:
    """Variance around the mean over the whole crop, over all of it and around its centre."""
    whole = mean[:, :1]
    return (square - 2 * whole * mean + whole.square()).clamp(min=0)


def _coarse_texture(crops: Crops, level: Tensor, magnitudes: Tensor) -> dict[str, Tensor]:
    """Average the maps of the coarse octaves, and the fluctuations there of the finer ones, crop by crop."""
    parts, weights = [], Weights()
    for middle in crops.middles(torch.cat([level, magnitudes], dim=1), 2**N_FINE, 2 * (2**N_FINE - 1)):
        averages = MiddleAverages(crops.side_px, weights)
        level, *of_octaves = torch.split(middle, [3] + [2] * N_FINE, dim=1)
        for octave, halved in enumerate(of_octaves):
            for coarser in coarser_octaves(octave)[N_FINE - octave :]:
                halved = halve(halved)
                add_fluctuation(averages.add, halved, octave, coarser)
        for octave in range(N_FINE, N_OCTAVES):
            level, _ = add_octave(averages.add, level, octave)
        parts.append(averages)
    return _join(parts)


def _coarse_blobs(crops: Crops, half: Tensor) -> dict[str, Tensor]:
    """Average the maps of the large blobs, crop by crop."""
    found: dict[str, Tensor] = {}
    stains, pitch = with_square(half), 2
    for radius in list(BLOB_SPACINGS)[N_FINE_BLOBS:]:
        stains, pitch = halve(stains), 2 * pitch
        parts, weights = [], Weights()
        for middle in crops.middles(stains, pitch, 0):
            averages = MiddleAverages(crops.side_px, weights)
            add_coarse_blobs(averages.add, middle, radius)
            parts.append(averages)
        found |= _join(parts)
    return found


def _join(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join the averages of some crops and others."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _tiles(image: Tensor, halo: int) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Cut an image (1, k, h, w) into tiles with a halo, each with the (row, column) where it begins without it."""
    side = TILE_CPU if image.device.type == "cpu" else TILE_GPU
    height, width = image.shape[2:]
    for top in range(0, height, side):
        for left in range(0, width, side):
            bottom, right = min(top + side, height), min(left + side, width)
            beyond = [halo - left, right + halo - width, halo - top, bottom + halo - height]
            beyond = [max(0, each) for each in beyond]
            tile = image[..., max(0, top - halo) : bottom + halo, max(0, left - halo) : right + halo]
            yield (top, left), functional.pad(tile, beyond, mode="replicate") if any(beyond) else tile


def _put(image: Tensor, values: Tensor, place: tuple[int, int], halo: int, octaves: int) -> None:
    """Write what was made of a tile, that many octaves coarser, to where the tile is; its halo in its own pixels."""
    inner = inside(values, halo >> octaves)
    top, left = (at >> octaves for at in place)
    image[..., top : top + inner.shape[2], left : left + inner.shape[3]] = inner
