"""Pairs of cells of a tile: those of one place, and those that lie in different places of a larger one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stdistill._support.arrays import Floats, Integers, Mask

PAIRS_AT_ONCE = 4_000_000
"""Pairs that are looked at together where only the nearest are kept: memory does not grow with the tiles of a batch."""


class Pairs(NamedTuple):
    """Pairs of cells, each once: the first has the smaller number."""

    first: Integers
    second: Integers

    def both_ways(self) -> Integers:
        """Return (2, 2 n): cells, and the cells that these hear from."""
        return np.stack([np.concatenate([self.first, self.second]), np.concatenate([self.second, self.first])])


def pairs_within(groups: Integers) -> Pairs:
    """List all pairs of cells of one group.

    Parameters
    ----------
    groups
        (n,), number of each cell's group, ascending.
    """
    n = len(groups)
    ends = np.searchsorted(groups, groups, side="right")
    n_after = ends - np.arange(n) - 1
    first = np.repeat(np.arange(n), n_after)
    begins = np.cumsum(n_after) - n_after
    second = first + 1 + np.arange(len(first)) - begins[first]
    return Pairs(first, second)


def near_pairs(places: Integers, centers: Floats, radius_um: float) -> Pairs:
    """List the pairs of cells of one place that lie within a radius.

    Parameters
    ----------
    places
        (n,), number of each cell's place, ascending.
    centers
        (n, 2), µm.
    radius_um
        Pairs at exactly this distance count.
    """
    pairs = pairs_within(places)
    return _choose(pairs, _squared(pairs, centers) <= radius_um**2)


def candidate_pairs(groups: Integers, parts: Integers, tiles: Integers, centers: Floats, most: int) -> Pairs:
    """List the pairs of cells of one group that lie in different parts of it: of each tile the nearest `most`.

    Parameters
    ----------
    groups, parts, tiles
        (n,), numbers of each cell's group, of the part of the group, and of its tile; all ascending.
    centers
        (n, 2), µm.
    most
        Pairs of a tile that are kept.
    """
    found = [_candidates(groups, parts, tiles, centers, most, start, stop) for start, stop in _stretches(groups, tiles)]
    return Pairs(*(np.concatenate(each) for each in zip(*found, strict=True))) if found else Pairs(*_NONE)


def _candidates(
    groups: Integers, parts: Integers, tiles: Integers, centers: Floats, most: int, start: int, stop: int
) -> Pairs:
    """List the pairs of a stretch of whole tiles."""
    pairs = Pairs(*(start + each for each in pairs_within(groups[start:stop])))
    pairs = _choose(pairs, parts[pairs.first] != parts[pairs.second])
    tile = tiles[pairs.first]
    rank = np.arange(len(tile)) - np.searchsorted(tile, tile)
    if not (rank >= most).any():
        return pairs
    order = np.lexsort((_squared(pairs, centers), tile))  # stable: `rank` is that of the sorted pairs, too
    return _choose(pairs, np.sort(order[rank < most]))


def _stretches(groups: Integers, tiles: Integers) -> list[tuple[int, int]]:
    """Cut the cells between tiles, into stretches of not too many pairs."""
    if not len(tiles):
        return []
    starts = np.flatnonzero(np.diff(tiles, prepend=-1))
    _, sizes = np.unique(groups, return_counts=True)
    n_pairs = np.cumsum(np.repeat(sizes, sizes))[np.append(starts[1:], len(tiles)) - 1]
    stretch = n_pairs // PAIRS_AT_ONCE
    begins = starts[np.flatnonzero(np.diff(stretch, prepend=-1))]
    return list(zip(begins, np.append(begins[1:], len(tiles)), strict=True))


def _choose(pairs: Pairs, which: Integers | Mask) -> Pairs:
    return Pairs(pairs.first[which], pairs.second[which])


def _squared(pairs: Pairs, centers: Floats) -> Floats:
    """Squared distances, µm²."""
    squared: Floats = ((centers[pairs.first] - centers[pairs.second]) ** 2).sum(axis=1)
    return squared


_NONE = np.zeros((2, 0), dtype=np.int64)
