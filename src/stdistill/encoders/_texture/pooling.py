"""Averages over many crops of maps that are made once for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from stdistill.encoders._texture.crops import CENTRE_SHARE, gaussian
from stdistill.encoders._texture.maps import Map

BLOCKS_PER_CROP = 18
"""Blocks that maps are averaged over first, along a crop's side: from this up to twice as many."""
RESAMPLED_PX = 1
"""What a pixel of a resampled image may see beyond itself."""
CROPS_AT_ONCE, PIXELS_AT_ONCE = 64, 100_000
"""What a CPU averages together: crops, and pixels of the middles of crops."""


class Crops:
    """Where the crops of a window lie.

    Parameters
    ----------
    origins
        Upper left corners (n, 2), as (x, y), float64, on the CPU, in pixels of the window.
    side_px
        Of each crop.
    """

    def __init__(self, origins: Tensor, side_px: int) -> None:
        self.origins, self.side_px = origins, side_px
        self.block_px = 2 ** int(math.log2(side_px / BLOCKS_PER_CROP))

    def pool(self, blocks: Tensor, reach_px: int) -> Tensor:
        """Average blocks (h, w, k) of maps over each crop, as a whole and around its centre: (n, 2, k).

        Of the blocks those have a weight whose maps see nothing beyond the crop. Sums are of one crop each, so that
        float32 is as precise in a large window as in a small one.
        """
        corners, weights, n = self._weights(reach_px)
        exact = _exact(blocks)
        weights = weights.to(blocks.device, exact)
        pooled = []
        for part in _parts(len(corners), CROPS_AT_ONCE):
            patches = _views(blocks, n).index_select(0, _places(corners[part], blocks)).to(exact)
            columns, rows = weights[part].unbind(1)
            by_row = torch.bmm(rows, patches).view(-1, 2, n, blocks.shape[2])
            pooled.append((by_row * columns[..., None]).sum(2))
        return torch.cat(pooled).float()

    def middles(self, image: Tensor, pitch_px: int, reach_px: int) -> Iterable[Tensor]:
        """Cut the middle (m, k, side, side) out of some crops after the other, from an image (1, k, h, w) of a pitch.

        What is cut sees nothing beyond the crop. It lies where whole pixels are, up to half of one off the middle.
        """
        half = self.side_px / 2
        n = int((half - pitch_px / 2 - reach_px - RESAMPLED_PX) / (pitch_px / 2))
        pixels = image[0].permute(1, 2, 0).contiguous()
        corners = ((self.origins + half) / pitch_px - n / 2).round().long()
        for part in _parts(len(corners), 1 + PIXELS_AT_ONCE // n**2):
            patches = _views(pixels, n).index_select(0, _places(corners[part], pixels))
            yield patches.view(-1, n, n, pixels.shape[2]).permute(0, 3, 1, 2).contiguous()

    def _weights(self, reach_px: int) -> tuple[Tensor, Tensor, int]:
        """Return the first blocks (n, 2), the weights (n, 2 axes, 2 windows, blocks) along axes, and their number."""
        margin, side = reach_px + RESAMPLED_PX + self.block_px, self.side_px
        low, high = self.origins + margin, self.origins + side - margin
        n = math.ceil((side - 2 * margin) / self.block_px) + 1
        corners = (low / self.block_px).floor()
        edges = (corners[..., None] + torch.arange(n + 1)) * self.block_px
        edges = edges.clamp(low[..., None], high[..., None])
        places = (edges - self.origins[..., None] - side / 2) / (CENTRE_SHARE * side * math.sqrt(2))
        weights = torch.stack([edges.diff(dim=-1), torch.erf(places).diff(dim=-1)], dim=2)
        return corners.long(), (weights / weights.sum(-1, keepdim=True)).float(), n


class Weights(dict[tuple[int, int], Tensor]):
    """Weights (pixels, 2 windows) of the pixels of a middle, by their number along a side and their size."""


class MiddleAverages(dict[str, Tensor]):
    """Averages by name, each (m, 2, k), of the maps of middles of crops that are added.

    Parameters
    ----------
    side_px
        Of the crops, whose Gaussian window is taken.
    weights
        Of some crops, to serve for the others.
    """

    def __init__(self, side_px: int, weights: Weights) -> None:
        super().__init__()
        self.side_px, self.weights = side_px, weights

    def add(self, each: Map) -> None:
        """Average a map."""
        n, exact = each.values.shape[-1], _exact(each.values)
        if (n, each.pitch_px) not in self.weights:
            line = gaussian(n, CENTRE_SHARE * self.side_px / each.pitch_px, each.values.device)
            windows = torch.stack([torch.full((n, n), 1 / n**2, device=line.device), line[:, None] * line], dim=-1)
            self.weights[n, each.pitch_px] = windows.view(n * n, 2).to(exact)
        self[each.name] = (each.values.flatten(2).to(exact) @ self.weights[n, each.pitch_px]).float().mT


class Canvas:
    """Blocks of the maps of a window, to which tiles are added as they come.

    Parameters
    ----------
    height, width
        Of the window, in pixels.
    block_px
        Side of a block.
    """

    def __init__(self, height: int, width: int, block_px: int) -> None:
        self.shape, self.block_px = (height // block_px, width // block_px), block_px
        self.blocks: dict[str, Tensor] = {}
        self.reaches: dict[str, int] = {}

    def tile(self, place: tuple[int, int], halo: int, pitch_px: int) -> Callable[[Map], None]:
        """Return what adds the maps of a tile, which begins at a (row, column) without its halo, in its own pixels."""

        def add(each: Map) -> None:
            inner = inside(each.values, halo * pitch_px // each.pitch_px)[0]
            blocks = to_blocks(inner, self.block_px / each.pitch_px).permute(1, 2, 0)
            if each.name not in self.blocks:
                self.blocks[each.name] = blocks.new_empty(*self.shape, blocks.shape[2])
                # A block of a coarser map shows all of the pixel that it is a part of.
                self.reaches[each.name] = each.reach_px + max(0, each.pitch_px - self.block_px)
            y, x = (at * pitch_px // self.block_px for at in place)
            self.blocks[each.name][y : y + blocks.shape[0], x : x + blocks.shape[1]] = blocks

        return add

    def pool(self, crops: Crops) -> dict[str, Tensor]:
        """Average the maps over each crop, by name: (n, 2, k)."""
        pooled: dict[str, Tensor] = {}
        for reach in sorted(set(self.reaches.values())):
            names = [name for name, own in self.reaches.items() if own == reach]
            widths = [self.blocks[name].shape[2] for name in names]
            together = crops.pool(torch.cat([self.blocks[name] for name in names], dim=2), reach)
            pooled |= dict(zip(names, torch.split(together, widths, dim=2), strict=True))
        return pooled


def inside(maps: Tensor, border: int) -> Tensor:
    """Cut a border off maps (…, h, w)."""
    return maps[..., border : maps.shape[-2] - border, border : maps.shape[-1] - border]


def to_blocks(maps: Tensor, n: float) -> Tensor:
    """Average blocks of n × n pixels of maps (k, h, w); where n is a fraction, repeat these."""
    if n < 1:
        times = round(1 / n)
        return maps.repeat_interleave(times, 1).repeat_interleave(times, 2)
    size, (k, height, width) = int(n), maps.shape
    rows = maps.reshape(k, height // size, size, width).sum(2)
    return rows.view(k, height // size, width // size, size).sum(3) * size**-2


def _views(pixels: Tensor, n: int) -> Tensor:
    """Show all squares of n × n of pixels (h, w, k) as (places, n, n k), without a copy."""
    width, k = pixels.shape[1:]
    n_places = pixels.shape[0] * width - (n - 1) * width - (n - 1)
    return pixels.as_strided((n_places, n, n * k), (k, width * k, 1))


def _places(corners: Tensor, pixels: Tensor) -> Tensor:
    return (corners[:, 1] * pixels.shape[1] + corners[:, 0]).to(pixels.device)


def _parts(n: int, at_once: int) -> list[slice]:
    return [slice(start, start + at_once) for start in range(0, n, at_once)]


def _exact(maps: Tensor) -> torch.dtype:
    """Return a type whose products are not rounded further: a GPU may round factors of float32 to 10 bits."""
    return torch.float64 if maps.is_cuda else torch.float32
