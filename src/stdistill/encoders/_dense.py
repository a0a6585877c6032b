"""Patch tokens of a vision transformer, of tiles that lie on the slide, pooled under the disc around each cell."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MARGIN = 1 / 8
"""Share of a tile's side whose patches are left to the next tile, on either side: they see only one side of theirs."""
PAIRS_AT_ONCE = 8192
"""Discs over squares whose shares are computed together, which bounds memory."""
N_ROWS = 8
"""Rows of a patch at which it is measured how much of them lies under a disc."""


def find_patches(module: nn.Module, name: str) -> Any:
    """Return the vision transformer: the module itself, or the network of which it pools the tokens."""
    for network in (module, getattr(module, "network", None)):
        if all(hasattr(network, part) for part in ("forward_features", "num_prefix_tokens", "patch_embed")):
            return network
    msg = (
        f"The encoder {name!r} cannot be dense: its {type(module).__name__} gives no patch tokens that are known here. "
        "Expected a vision transformer of timm, with forward_features, num_prefix_tokens and patch_embed; "
        "encoder.by_crops() encodes crop by crop."
    )
    raise ValueError(msg)


class DensePatches(nn.Module):
    """Encodes tiles once for all cells on them.

    The slide is parted into squares, each of which takes its patch tokens from one tile, in whose middle it lies. So a
    patch has the same token whatever the window, and the cells, and none is of a tile's border.

    Parameters
    ----------
    network
        Gives tokens (b, prefix + patches, d) of tiles by ``forward_features``.
    tile_px
        Side of the tiles.
    name
        Of the encoder, for messages.
    """

    def __init__(self, network: Any, tile_px: int, name: str) -> None:
        super().__init__()
        self.network, self.tile_px, self.name = network, tile_px, name
        self.n_prefix = int(network.num_prefix_tokens)
        self.patch_px = int(network.patch_embed.patch_size[0])
        self.per_side = tile_px // self.patch_px
        self.margin = max(1, round(MARGIN * self.per_side))
        """Patches of a tile that are left to the next, on either side."""
        self.n_inner = self.per_side - 2 * self.margin
        if tile_px % self.patch_px or self.n_inner < 1:
            msg = (
                f"The encoder {name!r} cannot be dense: tiles of {tile_px} px have to hold at least three whole "
                f"patches of {self.patch_px} px along a side. Give another input_px."
            )
            raise ValueError(msg)
        self.grid_px = self.n_inner * self.patch_px
        """Side of the squares. Windows begin and end at multiples of it, and have a tile to spare around the discs."""
        self.tiles_at_once = 32
        """Tiles that are encoded together."""

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, `tile_px`, `tile_px`) as the mean of all their patches, (b, d)."""
        return self._tokens(images).mean((1, 2))

    def encode_window(self, image: Tensor, origins: Tensor, side_px: int) -> Tensor:
        """Encode the discs in the squares of `side_px` whose upper left corners (n, 2) are given, as (n, d)."""
        device, origins = image.device, origins.double().cpu()
        cells, squares = self._pairs(origins, side_px)
        places, tile_of = torch.unique(squares, dim=0, return_inverse=True)
        order = torch.argsort(tile_of, stable=True)
        bounds = [0, *torch.bincount(tile_of).cumsum(0).tolist()]
        rows = cells[order].to(device)
        # Relative to their squares, and of all pairs together: a GPU would wait for each tile's.
        centers = ((origins + side_px / 2)[cells[order]] - squares[order] * self.grid_px).float().to(device)
        sums, areas = image.new_zeros(0), image.new_zeros(len(origins), 1)
        for start in range(0, len(places), self.tiles_at_once):
            some = places[start : start + self.tiles_at_once]
            tokens = self._tokens(torch.stack([self._cut(image, place) for place in some.tolist()]))
            inner = slice(self.margin, self.margin + self.n_inner)
            tokens = tokens[:, inner, inner].flatten(1, 2).float()
            if not start:
                sums = tokens.new_zeros(len(origins), tokens.shape[-1])
            first, last = bounds[start], bounds[start + len(some)]
            parts = torch.split(centers[first:last], PAIRS_AT_ONCE)
            shares = torch.cat([self._shares(part, side_px / 2) for part in parts])
            areas.index_add_(0, rows[first:last], shares.sum(1, keepdim=True))
            with torch.autocast(device.type, enabled=False):  # sums are not rounded, whatever tokens are
                for begin, end, token in zip(bounds[start:], bounds[start + 1 :], tokens, strict=False):
                    sums.index_add_(0, rows[begin:end], shares[begin - first : end - first] @ token)
        return sums / areas

    def _pairs(self, origins: Tensor, side_px: int) -> tuple[Tensor, Tensor]:
        """List which disc lies over which square: rows (m,) of the discs, and places (m, 2) of the squares."""
        centers = origins + side_px / 2
        first = (origins / self.grid_px).floor().long()
        n = int(((origins + side_px) / self.grid_px).ceil().long().sub(first).max())
        steps = torch.cartesian_prod(torch.arange(n), torch.arange(n))
        squares = first[:, None] + steps
        low = squares * self.grid_px
        nearest = torch.minimum(torch.maximum(centers[:, None], low), low + self.grid_px)
        under = (nearest - centers[:, None]).norm(dim=2) < side_px / 2
        return under.nonzero()[:, 0], squares[under]

    def _shares(self, centers: Tensor, radius: float) -> Tensor:
        """How much of each patch of a square lies under the discs around `centers` (n, 2) in it: (n, patches), px².

        Exact along x, and by the middles of `N_ROWS` rows along y.
        """
        edges = torch.arange(self.n_inner + 1, device=centers.device) * self.patch_px
        rows = (torch.arange(self.n_inner * N_ROWS, device=centers.device) + 0.5) * self.patch_px / N_ROWS
        half = (radius**2 - (rows - centers[:, 1:]).square()).clamp(min=0).sqrt()[..., None]
        ends = torch.minimum(torch.maximum(edges - centers[:, :1, None], -half), half).diff(dim=2)
        of_rows = ends.reshape(-1, self.n_inner, N_ROWS, self.n_inner)
        return of_rows.sum(2).flatten(1) * (self.patch_px / N_ROWS)

    def _cut(self, image: Tensor, place: list[int]) -> Tensor:
        """Cut the tile in whose middle a square lies."""
        left, top = (at * self.grid_px - self.margin * self.patch_px for at in place)
        return image[:, top : top + self.tile_px, left : left + self.tile_px]

    def _tokens(self, images: Tensor) -> Tensor:
        """Return the patch tokens (b, rows, columns, d) of tiles."""
        tokens: Tensor = self.network.forward_features(images)
        found, expected = tuple(tokens.shape), self.n_prefix + self.per_side**2
        if len(found) != 3 or found[1] != expected:
            msg = (
                f"The encoder {self.name!r} cannot be dense: it gave tokens of shape {found} for {len(images)} tiles; "
                f"expected ({len(images)}, {expected}, d), {self.n_prefix} of them before those of the patches."
            )
            raise ValueError(msg)
        return tokens[:, self.n_prefix :].reshape(len(tokens), self.per_side, self.per_side, -1)
