"""Which rows a batch is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from stdistill._support.arrays import Floats, Integers

TILE_SIZE = 16
"""Neighbouring cells that enter a batch together: they share most of their tokens, and learning is as good as from
scattered cells (measured; with tiles of 64 and more it is worse)."""


class BatchRequest(NamedTuple):
    """What a batch is made from."""

    rows: Integers
    """Of the data."""
    seed: tuple[int, ...]
    """For whatever is drawn at random in making it: different in every batch, the same in every run."""


class TileSampler(Sampler[BatchRequest]):
    """Batches of compact tiles from all over the rows, in a new order each epoch.

    A step's rows do not depend on how many processes share it. What is left over at the end of an epoch is left out,
    other rows each time.

    Parameters
    ----------
    rows
        In an order in which neighbours are near, such as `spatial_order`.
    batch_size
        Rows per batch and process.
    seed
        Of the orders.
    rank, n_ranks
        Number of this process, and of all of them.
    tile_size
        Rows of a tile.
    """

    def __init__(
        self,
        rows: Integers,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        n_ranks: int = 1,
        tile_size: int = TILE_SIZE,
    ) -> None:
        self.rows = np.resize(rows, max(len(rows), n_ranks))
        self.batch_size = min(batch_size, len(self.rows) // n_ranks)
        self.seed = seed
        self.rank = rank
        self.n_ranks = n_ranks
        self.tile_size = tile_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of another epoch; Lightning's Trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows) // (self.batch_size * self.n_ranks)

    def __iter__(self) -> Iterator[BatchRequest]:
        rng = np.random.default_rng((self.seed, self.epoch))
        tiles = (np.arange(len(self.rows)) + rng.integers(self.tile_size)) // self.tile_size
        shuffled = self.rows[np.argsort(rng.permutation(tiles[-1] + 1)[tiles], kind="stable")]
        for step in range(len(self)):
            start = (step * self.n_ranks + self.rank) * self.batch_size
            yield BatchRequest(shuffled[start : start + self.batch_size], (self.seed, self.epoch, step, self.rank))


def spatial_order(centers: Floats, libraries: Integers | None = None) -> Integers:
    """Order cells along the Morton curve of their slide, slide by slide, so that cells near in order are near in space.

    Parameters
    ----------
    centers
        (n, 2), µm.
    libraries
        (n,), number of each cell's slide.
    """
    low = centers.min(axis=0)
    extent = max(float((centers.max(axis=0) - low).max()), np.finfo(np.float64).tiny)
    grid = ((centers - low) / extent * 0xFFFF).astype(np.uint32)
    codes = _spread_bits(grid[:, 0]) | (_spread_bits(grid[:, 1]) << np.uint32(1))
    return np.argsort(codes, kind="stable") if libraries is None else np.lexsort((codes, libraries))


def _spread_bits(values: Integers) -> Integers:
    """Put a zero between each two of 16 bits."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        values = (values | (values << np.uint32(shift))) & np.uint32(mask)
    return values
