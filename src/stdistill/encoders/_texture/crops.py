"""Averages of maps over whole crops."""

from __future__ import annotations

import torch
from torch import Tensor

from stdistill.encoders._texture.maps import Map

CENTRE_SHARE = 0.2
"""Standard deviation of the centre's Gaussian window, of the crop's shorter side (our choice)."""


class CropAverages(dict[str, Tensor]):
    """Averages by name of the maps of crops that are added, over the whole and around the centre: (b, 2, k) each."""

    def add(self, each: Map) -> None:
        """Average a map."""
        maps = each.values
        deviation = CENTRE_SHARE * min(maps.shape[-2:])
        rows, columns = (gaussian(n, deviation, maps.device) for n in maps.shape[-2:])
        around_centre = ((maps * columns).sum(-1) * rows).sum(-1)
        self[each.name] = torch.stack([maps.mean((-2, -1)), around_centre], dim=1)


def gaussian(n: int, deviation: float, device: torch.device) -> Tensor:
    """Weights of n pixels in a Gaussian window around their middle, which sum to 1."""
    places = torch.arange(n, device=device) - (n - 1) / 2
    weights = (-(places / deviation).square() / 2).exp()
    return weights / weights.sum()
