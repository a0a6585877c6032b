"""Cell types of niches, how far two niches lie apart in them, and which are partners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.special import rel_entr

from stdistill._measures.labels import Labels, cross_table
from stdistill._support.arrays import Float64s, Mask


@dataclass(frozen=True)
class CompositionJSD:
    """What :func:`stdistill.tl.composition_jsd` returns; methods go by their column."""

    summary: pd.DataFrame
    """One row per method."""
    niches: pd.DataFrame
    """One row per method and niche of the reference: its partner and their divergence."""
    divergences: dict[str, pd.DataFrame]
    """For each method, niches of the reference × niches of the method, partners in the same order."""
    random: dict[str, Float64s]
    """For each method, the weighted mean of every random pairing."""
    base: float
    """Of the logarithm; the largest divergence there is is ``log(2) / log(base)``."""
    cells: str
    """The cells compared: ``"test"``, or ``"all"`` without a split."""


def compositions_of(
    niches: Labels, cell_types: Labels, cells: Mask
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64], Float64s]:
    """Return names, sizes and compositions of the niches that have cells."""
    counts = cross_table(niches, cell_types, cells)
    sizes = counts.sum(axis=1)
    there = sizes > 0
    return np.array(niches.names, dtype=object)[there], sizes[there], shares(counts[there])


def largest_divergence(base: float) -> float:
    """Return the divergence of distributions that have nothing in common."""
    return float(np.log(2) / np.log(base))


def jensen_shannon(p: Float64s, q: Float64s, base: float) -> Float64s:
    """Compute the divergence of every row of `p` (m, t) from every row of `q` (k, t), as (m, k)."""
    rows, columns = p[:, None], q[None]
    middle = (rows + columns) / 2
    nats = (rel_entr(rows, middle).sum(axis=-1) + rel_entr(columns, middle).sum(axis=-1)) / 2
    clipped: Float64s = np.clip(nats / np.log(base), 0, largest_divergence(base))
    return clipped


def pair_niches(matrix: Float64s, sizes: npt.NDArray[np.integer], base: float) -> tuple[npt.NDArray[np.integer], float]:
    """Find each row's column (-1: none) such that the mean of the rows, weighted by `sizes`, is least; and the mean."""
    costs = _with_empty_places(matrix, base) * (sizes / sizes.sum())[:, None]
    rows, columns = linear_sum_assignment(costs)
    return np.where(columns < matrix.shape[1], columns, -1), float(costs[rows, columns].sum())


def random_pairings(
    matrix: Float64s, sizes: npt.NDArray[np.integer], base: float, n_pairings: int, seed: int
) -> Float64s:
    """Compute the weighted means of random one-to-one pairings, looked up in the matrix."""
    costs = _with_empty_places(matrix, base)
    places = np.tile(np.arange(costs.shape[1]), (n_pairings, 1))
    drawn = np.random.default_rng(seed).permuted(places, axis=1)[:, : len(costs)]
    means: Float64s = costs[np.arange(len(costs)), drawn] @ (sizes / sizes.sum())
    return means


def _with_empty_places(matrix: Float64s, base: float) -> Float64s:
    """Give rows beyond the number of columns places of their own, which resemble nothing."""
    missing = max(0, matrix.shape[0] - matrix.shape[1])
    return np.pad(matrix, ((0, 0), (0, missing)), constant_values=largest_divergence(base))


def shares(counts: npt.NDArray[np.int64] | Float64s) -> npt.NDArray[np.float64]:
    """Divide each row by its sum; NaN where that is 0."""
    totals = counts.sum(axis=1, keepdims=True)
    divided: npt.NDArray[np.float64] = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    return divided
