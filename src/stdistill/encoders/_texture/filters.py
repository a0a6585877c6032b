"""Filters of slices, sums and elementwise functions: the same on any device, and under autocasting."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def smooth(maps: Tensor, times: int = 1, spacing: int = 1) -> Tensor:
    """Filter with (1, 2, 1) / 4 along both axes so many times, its taps `spacing` pixels apart (à trous)."""
    border = times * spacing
    maps = functional.pad(maps, (border,) * 4, mode="replicate")
    for _ in range(2 * times):  # (1, 2, 1) is (1, 1) twice
        maps = maps[..., spacing:] + maps[..., :-spacing]
        maps = maps[..., spacing:, :] + maps[..., :-spacing, :]
    return maps * 0.0625**times


def local_maximum(maps: Tensor) -> Tensor:
    """Take the largest of 3 × 3 pixels."""
    maps = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    for _ in range(2):
        maps = torch.maximum(maps[..., 1:], maps[..., :-1])
        maps = torch.maximum(maps[..., 1:, :], maps[..., :-1, :])
    return maps


def gradient(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences within blocks of 2 × 2 pixels, at half the resolution."""
    maps = _even(maps)
    above, below = maps[..., ::2, :], maps[..., 1::2, :]
    rows = above + below
    columns = below - above
    return (rows[..., 1::2] - rows[..., ::2]) * 0.25, (columns[..., 1::2] + columns[..., ::2]) * 0.25


def halve(maps: Tensor) -> Tensor:
    """Average blocks of 2 × 2 pixels."""
    maps = _even(maps)
    rows = maps[..., ::2, :] + maps[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) * 0.25


def _even(maps: Tensor) -> Tensor:
    """Repeat the last row or column where their number is odd."""
    height, width = maps.shape[-2:]
    if height % 2 or width % 2:
        maps = functional.pad(maps, (0, width % 2, 0, height % 2), mode="replicate")
    return maps
