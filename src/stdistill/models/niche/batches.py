"""From a neighbourhood graph to batches of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from stdistill._support.arrays import Floats, Integers
from stdistill._support.jit import njit
from stdistill.models.features import ReadableRows, known_rows

CELLS_PER_BLOCK = 16
MAX_BLOCKS = 16
"""Centres are padded together in blocks of at least so many, and at most so many blocks (measured)."""
CELLS_PER_BLOCK_GPU = 256
"""A GPU takes longer to begin with a small block than to compute with it (measured)."""


class Tokens(NamedTuple):
    """Tokens of several centres, one after the other."""

    centers: Integers
    """(n_centers,), the cells in whose place the centres are."""
    center: Integers
    """(n_tokens,), place of each token's centre in `centers`, in ascending order."""
    cells: Integers
    """(n_tokens,), the cells."""
    offsets: npt.NDArray[np.float32]
    """(n_tokens, 2), where they lie relative to their centre, in radii."""

    def keep(self, kept: npt.NDArray[np.bool_]) -> Tokens:
        """Only the tokens where `kept`; all centres stay."""
        return Tokens(self.centers, self.center[kept], self.cells[kept], self.offsets[kept])

    @staticmethod
    def concatenate(parts: Sequence[Tokens]) -> Tokens:
        """All tokens of all centres; a cell may be a centre more than once."""
        starts = np.cumsum([0] + [len(part.centers) for part in parts[:-1]])
        return Tokens(
            np.concatenate([part.centers for part in parts]),
            np.concatenate([part.center + start for part, start in zip(parts, starts, strict=True)]),
            np.concatenate([part.cells for part in parts]),
            np.concatenate([part.offsets for part in parts]),
        )


@dataclass(frozen=True)
class TokenBlock:
    """Centres with a similar number of tokens, padded to the same number."""

    rows: Tensor
    """(m, t) int64, rows of the batch's features."""
    offsets: Tensor
    """(m, t, 2) float32, relative positions in radii."""
    mask: Tensor
    """(m, t) bool, true where there is a token."""
    where: Tensor
    """(m,) int64, places of the block's centres in the batch."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TokenBlock:
        """Copy to a device."""
        parts = (self.rows, self.offsets, self.mask, self.where)
        return TokenBlock(*(part.to(device, non_blocking=non_blocking) for part in parts))

    def pin_memory(self) -> TokenBlock:
        """Copy to memory from which a GPU copies fast."""
        return TokenBlock(*(part.pin_memory() for part in (self.rows, self.offsets, self.mask, self.where)))


def merge_blocks(blocks: Sequence[TokenBlock], n_centers: int) -> list[TokenBlock]:
    """Pad neighbouring blocks together until each has at least so many centres, but for the last."""
    merged: list[TokenBlock] = []
    waiting: list[TokenBlock] = []
    for block in blocks:
        waiting.append(block)
        if sum(len(each.where) for each in waiting) >= n_centers or block is blocks[-1]:
            merged.append(_merge(waiting) if len(waiting) > 1 else block)
            waiting = []
    return merged


def _merge(blocks: Sequence[TokenBlock]) -> TokenBlock:
    longest = max(block.rows.shape[1] for block in blocks)

    def pad(values: Tensor) -> Tensor:
        return functional.pad(values, (0, 0) * (values.ndim - 2) + (0, longest - values.shape[1]))

    return TokenBlock(
        torch.cat([pad(block.rows) for block in blocks]),
        torch.cat([pad(block.offsets) for block in blocks]),
        torch.cat([pad(block.mask) for block in blocks]),
        torch.cat([block.where for block in blocks]),
    )


@dataclass(frozen=True)
class TokenBatch:
    """Neighbourhoods whose cells' features are there once each."""

    features: Tensor
    """(n_unique, n_features), of every cell that is a token."""
    centers: Tensor
    """(n_centers,) int64, the cells in whose place the centres are."""
    blocks: tuple[TokenBlock, ...]
    """The tokens of all centres."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TokenBatch:
        """Copy to a device."""
        return TokenBatch(
            self.features.to(device, non_blocking=non_blocking),
            self.centers.to(device, non_blocking=non_blocking),
            tuple(block.to(device, non_blocking) for block in self.blocks),
        )

    def pin_memory(self) -> TokenBatch:
        """Copy to memory from which a GPU copies fast."""
        features = self.features.pin_memory() if self.features.device.type == "cpu" else self.features
        return TokenBatch(features, self.centers.pin_memory(), tuple(block.pin_memory() for block in self.blocks))


class Neighborhoods:
    """The cells of one or several slides with their features and their graph, from which batches are cut.

    Parameters
    ----------
    features
        (n, n_features) array, memory map, tensor, or what reads like one. A row with a NaN is a cell without features:
        it is no token, and a centre without features has no tokens at all unless others are around it.
    indptr, indices
        The graph in CSR form: the cells within the radius of each cell, without itself.
    centers
        (n, 2), µm.
    radius_um
        Radius of the graph.
    known
        (n,), the cells with features; found by reading all of them when not given.
    max_tokens
        Keep only so many tokens nearest to the centre; by default all.
    augmented
        The features once more, of the cells as other slides would show them.
    """

    def __init__(
        self,
        features: ReadableRows,
        indptr: Integers,
        indices: Integers,
        centers: Floats,
        radius_um: float,
        *,
        known: npt.NDArray[np.bool_] | None = None,
        max_tokens: int | None = None,
        augmented: Sequence[ReadableRows] = (),
    ) -> None:
        self.features = features
        self.looks = [features, *augmented]
        self.indptr = indptr
        self.indices = indices
        self.centers = centers
        self.radius_um = radius_um
        self.known = known_rows(features) if known is None else known
        self.max_tokens = max_tokens
        self._numbers = np.full(len(centers), -1, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.centers)

    def tokens(self, cells: Integers, *, positions: Floats | None = None, radius_share: float = 1.0) -> Tokens:
        """Find the tokens of the views centred on `cells`.

        Parameters
        ----------
        cells
            (n_centers,).
        positions
            (n_centers, 2), µm: where the views are centred, by default on their cells.
        radius_share
            Radius of the views in radii of the graph. A view sees all cells within it as long as its centre is
            no further than (1 - radius_share) radii from its cell. Offsets are in radii of the graph all the same.
        """
        starts = self.indptr[cells].astype(np.int64)
        counts = self.indptr[cells + 1] - starts + 1  # and the cell itself
        center = np.repeat(np.arange(len(cells)), counts)
        first = np.cumsum(counts) - counts
        is_neighbor = np.ones(len(center), dtype=bool)
        is_neighbor[first] = False
        edges = np.arange(len(center)) - np.repeat(first - starts + 1, counts)
        neighbors = np.empty(len(center), dtype=np.int64)
        neighbors[is_neighbor] = self.indices[edges[is_neighbor]]
        neighbors[first] = cells
        around = self.centers[cells] if positions is None else positions
        offsets = ((self.centers[neighbors] - around[center]) / self.radius_um).astype(np.float32)
        kept = self.known[neighbors]
        if radius_share < 1 or positions is not None:
            kept &= np.einsum("ij,ij->i", offsets, offsets) <= radius_share**2
        tokens = Tokens(cells, center, neighbors, offsets)
        return self._nearest(tokens.keep(kept) if not kept.all() else tokens)

    def batch(self, tokens: Tokens, look: int = 0) -> TokenBatch:
        """Gather the features of the cells, each once, and pad the tokens in blocks of similar length.

        All cells are seen with one of the `looks`.

        At least one centre must have a token; those that have none are read as an empty neighbourhood.
        """
        unique, rows = _number_cells(tokens.cells, self._numbers)
        counts = np.bincount(tokens.center, minlength=len(tokens.centers))
        first = np.cumsum(counts) - counts
        order = np.argsort(counts, kind="stable")
        n_blocks = max(1, min(MAX_BLOCKS, len(order) // CELLS_PER_BLOCK))
        blocks = tuple(
            _pad(where, first[where], counts[where], rows, tokens.offsets) for where in np.array_split(order, n_blocks)
        )
        features = self.looks[look][unique]
        features = features if isinstance(features, Tensor) else torch.from_numpy(np.asarray(features))
        return TokenBatch(features, torch.from_numpy(tokens.centers.astype(np.int64)), blocks)

    def share_capped(self, cells: Integers) -> float:
        """Share of the cells that have more tokens than `max_tokens`."""
        if self.max_tokens is None or not len(cells):
            return 0.0
        return float((self.indptr[cells + 1] - self.indptr[cells] + 1 > self.max_tokens).mean())

    def _nearest(self, tokens: Tokens) -> Tokens:
        if self.max_tokens is None:
            return tokens
        distances = np.einsum("ij,ij->i", tokens.offsets, tokens.offsets)
        order = np.lexsort((tokens.cells, distances, tokens.center))
        first = np.searchsorted(tokens.center, tokens.center)
        kept = np.empty(len(order), dtype=bool)
        kept[order] = np.arange(len(order)) - first < self.max_tokens
        return tokens.keep(kept)


@njit(cache=True)
def _number_cells(cells: Integers, numbers: Integers) -> tuple[Integers, Integers]:
    """Return the distinct cells, and each cell's place among them; `numbers` is -1 everywhere before and after."""
    distinct = np.empty(len(cells), dtype=np.int64)
    rows = np.empty(len(cells), dtype=np.int64)
    n_distinct = 0
    for token, cell in enumerate(cells):
        if numbers[cell] < 0:
            numbers[cell] = n_distinct
            distinct[n_distinct] = cell
            n_distinct += 1
        rows[token] = numbers[cell]
    for number in range(n_distinct):
        numbers[distinct[number]] = -1
    return distinct[:n_distinct], rows


def _pad(
    where: Integers, first: Integers, counts: Integers, rows: Integers, offsets: npt.NDArray[np.float32]
) -> TokenBlock:
    place = np.arange(max(1, int(counts.max(initial=0))))
    mask = place < counts[:, None]
    token = np.where(mask, first[:, None] + place, 0)
    padded = offsets[token]
    padded[~mask] = 0
    return TokenBlock(
        torch.from_numpy(rows[token]),
        torch.from_numpy(padded),
        torch.from_numpy(mask),
        torch.from_numpy(where.astype(np.int64)),
    )
