"""An encoder of tiles whose last blocks learn, while all before them stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from stdistill._features.encoding import prepare
from stdistill._features.tiles import of_tiles
from stdistill.encoders import Encoder
from stdistill.encoders._blocks import unfreeze_last


class TunedTiles(nn.Module):
    """Takes pixels of tiles, and returns the mean features of their crops at each scale, as `TileModule` does.

    It is in evaluation mode at all times: no dropout, and norms as they are. What lies before the last blocks needs
    no gradients, and torch keeps nothing of it.

    Parameters
    ----------
    encoder
        What encodes the crops.
    crops_per_side
        Crops along the side of a tile, for each scale.
    n_blocks
        Number of its last blocks that learn.
    device
        Where it is to run, which says how many crops are encoded at once.
    """

    def __init__(self, encoder: Encoder, crops_per_side: Mapping[str, int], n_blocks: int, device: str) -> None:
        super().__init__()
        (self.encoder,), _ = of_tiles([encoder], list(crops_per_side.values()), None, device)
        self.scales = list(crops_per_side)
        self.module = self.encoder.load()
        unfreeze_last(encoder, self.module, n_blocks)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Describe tiles (b, 3, side, side), 0 to 255, as (b, d) at each scale."""
        features = self.module(prepare(pixels, self.encoder))
        return dict(zip(self.scales, torch.chunk(features, len(self.scales), dim=1), strict=True))

    def blocks(self) -> dict[str, Tensor]:
        """Return the tensors that learn, by their names in the encoder's own module."""
        learning = {name: each for name, each in self.named_parameters() if each.requires_grad}
        prefix = "module.module."  # that of a tile, and the encoder's in it
        return {name.removeprefix(prefix): each.detach().cpu() for name, each in learning.items()}
