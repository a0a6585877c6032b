"""How far up the true partner of each tile is among all that it could be, and for how many tiles far enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Floats, Integers

VALUES_AT_ONCE = 2**23
"""Similarities in memory at a time: 32 MB."""
TIE = 1e-6
"""Cosines that differ by less are equal: float32 resolves no more."""
WITHIN = 95
"""Percent of the resamplings that an interval holds."""


class Recall(NamedTuple):
    """Share of the queries whose partner is among the first p % of the pool."""

    p: float
    recall: float
    low: float
    high: float
    n: int
    """Tiles in the pool."""
    chance: float
    """What ranks at random give."""


def unit_rows(vectors: Floats) -> npt.NDArray[np.float32]:
    """Scale rows to length 1, as float32; a row of zeros has no direction, and stays."""
    rows = np.array(vectors, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, lengths, out=rows, where=lengths > 0)
    return rows


def partner_ranks(one: Floats, other: Floats) -> tuple[Integers, Integers]:
    """Rank the partner of each row by cosine, in both directions: row i of the one belongs to row i of the other.

    A rank is 1 + the number of others that are at least as similar, so that ties count against the method: one that
    says the same of all tiles has the worst ranks that there are.

    Parameters
    ----------
    one, other
        (n, d) without NaN.

    Returns
    -------
    Ranks (n,) of `other` for rows of `one`, and of `one` for rows of `other`. Never more than a few rows of the n × n
    similarities are in memory.
    """
    queries, candidates = unit_rows(one), unit_rows(other)
    n = len(queries)
    bar = np.einsum("ij,ij->i", queries, candidates) - np.float32(TIE)
    forward, backward = np.ones(n, dtype=np.intp), np.ones(n, dtype=np.intp)
    step = max(1, VALUES_AT_ONCE // max(1, n))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        similarities = queries[rows] @ candidates.T
        partners = np.arange(rows.stop - start)
        similarities[partners, partners + start] = -np.inf
        forward[rows] += np.count_nonzero(similarities >= bar[rows, None], axis=1)
        backward += np.count_nonzero(similarities >= bar, axis=0)
    return forward, backward


def first_places(p: float, n: int) -> int:
    """Return how many places are the first p % of n: ⌈p n / 100⌉, without the rounding of floating point numbers."""
    return math.ceil(Fraction(str(p)) * n / 100)


def recall_of(ranks: Integers, p: Sequence[float], *, n_bootstrap: int, rng: np.random.Generator) -> list[Recall]:
    """Tell how many partners are among the first p % of the pool, which holds as many as there are ranks.

    Parameters
    ----------
    ranks
        Of the partners (n,), from 1 to n.
    p
        Percentages.
    n_bootstrap
        Resamplings of the queries that the interval comes from.
    rng
        Draws them. Of n answers that are drawn with replacement, a binomial number is right.
    """
    n = len(ranks)
    found = []
    for each in p:
        k = first_places(each, n)
        recall = float((ranks <= k).mean())
        resampled = rng.binomial(n, recall, n_bootstrap) / n
        low, high = np.percentile(resampled, [50 - WITHIN / 2, 50 + WITHIN / 2])
        found.append(Recall(float(each), recall, float(low), float(high), n, k / n))
    return found


def nearest(query: Floats, candidates: Floats, n: int) -> tuple[Integers, Floats]:
    """Find the rows of `candidates` (m, d) that are most similar to a query (d,) by cosine, the most similar first.

    Returns
    -------
    Numbers of the rows and cosines, n of each or all that there are.
    """
    similarities = unit_rows(candidates) @ unit_rows(query[None])[0]
    order = np.argsort(-similarities, kind="stable")[:n]
    return order, similarities[order]
