"""Encoders of whole tiles: each tile is cut into crops at several scales, whose features are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from stdistill._features.embedder import BATCH_SIZE_CPU, BATCH_SIZE_GPU
from stdistill._features.encoding import check_features, measure_dim
from stdistill.encoders._encoder import Encoder


class TileModule(nn.Module):
    """Takes whole tiles, and returns the mean features of their crops at each scale, side by side.

    Parameters
    ----------
    encoder, module
        What encodes the crops. They are resampled to the side that it takes, each as a whole, or go in as they are.
    crops_per_side
        Crops along the side of a tile, for each scale.
    at_once
        Crops that are encoded at once.
    """

    low: Tensor
    high: Tensor

    def __init__(self, encoder: Encoder, module: nn.Module, crops_per_side: Sequence[int], at_once: int) -> None:
        super().__init__()
        self.encoder, self.module, self.crops_per_side, self.at_once = encoder, module, crops_per_side, at_once
        mean, std = (torch.tensor(values)[:, None, None] for values in (encoder.mean, encoder.std))
        self.register_buffer("low", (0 - mean) / std)
        self.register_buffer("high", (1 - mean) / std)

    def forward(self, tiles: Tensor) -> Tensor:
        """Describe normalised tiles (b, 3, side, side) as (b, scales × d)."""
        scales = [self._describe(tiles, n) for n in self.crops_per_side]
        widths = [features.shape[1] for features in scales]
        if len(set(widths)) > 1:
            msg = (
                f"The encoder {self.encoder.name!r} gives {widths} features for crops of "
                f"{[tiles.shape[-1] // n for n in self.crops_per_side]} px; expected as many for each. Give it the "
                "side that crops are resampled to, input_px=."
            )
            raise ValueError(msg)
        return torch.cat(scales, dim=1)

    def _describe(self, tiles: Tensor, n: int) -> Tensor:
        """Average the features of the n × n crops of each tile."""
        crops = self._resample(cut(tiles, n))
        features = torch.cat([self._encode(part) for part in torch.split(crops, self.at_once)])
        return features.view(len(tiles), n * n, -1).mean(dim=1)

    def _encode(self, crops: Tensor) -> Tensor:
        return check_features(self.encoder, self.module(crops), len(crops))

    def _resample(self, crops: Tensor) -> Tensor:
        side = self.encoder.input_px
        if side is None or crops.shape[-1] == side:
            return crops
        resampled = functional.interpolate(crops, size=(side, side), mode=self.encoder.interpolation, antialias=True)
        return torch.clamp(resampled, self.low, self.high)  # what bicubic weights take beyond black and white


def cut(tiles: Tensor, n: int) -> Tensor:
    """Cut tiles (b, 3, side, side) into n × n crops each: (b n², 3, side / n, side / n), row by row."""
    b, channels, side, _ = tiles.shape
    parts = tiles.view(b, channels, n, side // n, n, side // n).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(b * n * n, channels, side // n, side // n)


def of_tiles(
    encoders: Sequence[Encoder], crops_per_side: Sequence[int], batch_size: int | None, device: str
) -> tuple[list[Encoder], int]:
    """Return encoders of whole tiles, and how many of these are taken at once.

    `batch_size` counts crops, as it does where each is encoded for itself.
    """
    at_once = batch_size or (BATCH_SIZE_CPU if device == "cpu" else BATCH_SIZE_GPU)
    derived = [
        replace(
            encoder,
            dim=None if encoder.dim is None else len(crops_per_side) * encoder.dim,
            load=partial(_load, encoder, tuple(crops_per_side), at_once),
            input_px=None,
            resize_px=None,
            windows_from_px=None,
        )
        for encoder in encoders
    ]
    return derived, max(1, at_once // max(crops_per_side) ** 2)


def split_scales(
    features: npt.NDArray[np.float16], encoders: Sequence[Encoder], n_scales: int, tile_px: int
) -> list[npt.NDArray[np.float16]]:
    """Part features (n, Σ scales × d) by scale: (n, Σ d) each, the encoders side by side."""
    if len(encoders) == 1:
        return np.split(features, n_scales, axis=1)
    dims = [encoder.dim or measure_dim(encoder, encoder.load(), tile_px) for encoder in encoders]
    ends = np.cumsum(np.repeat(dims, n_scales))[:-1]
    parts = np.split(features, ends, axis=1)
    return [np.concatenate(parts[scale::n_scales], axis=1) for scale in range(n_scales)]


def _load(encoder: Encoder, crops_per_side: Sequence[int], at_once: int) -> nn.Module:
    return TileModule(encoder, encoder.load(), crops_per_side, at_once)
