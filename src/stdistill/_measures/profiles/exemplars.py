"""Which cells show a niche best, and which could as well be of another."""

from __future__ import annotations

import numpy as np

from stdistill._support.arrays import Floats, Rows

EXTREME = 4
"""Cells are taken from the quarter of the niche that is most typical, or most borderline."""


def pick_apart(scores: Floats, centers: Floats, n: int, apart_um: float) -> Rows:
    """Pick the cells with the largest scores such that none lies near another, as far as there are any.

    Parameters
    ----------
    scores
        (m,), of the cells of one niche.
    centers
        Their centres (m, 2) in µm.
    n
        How many to pick.
    apart_um
        Distance within which cells would show the same tissue. Where the best quarter has too few cells so far apart,
        the rest are the best of those that are left.
    """
    order = np.argsort(-scores, kind="stable")
    best = order[: max(n, -(-len(order) // EXTREME))]
    free = np.ones(len(best), dtype=bool)
    picked: list[int] = []
    while len(picked) < n and free.any():
        first = best[free.argmax()]
        picked.append(int(first))
        free &= np.hypot(*(centers[best] - centers[first]).T) > apart_um
    rest = best[~np.isin(best, picked)][: n - len(picked)]
    chosen = np.concatenate([np.array(picked, dtype=np.intp), rest]).astype(np.intp)
    ranked: Rows = chosen[np.argsort(-scores[chosen], kind="stable")]
    return ranked


def top_two(logits: Floats) -> tuple[Floats, Rows]:
    """Return by how much the largest logit (n, k) of each row leads, and the place of the second; NaN stays NaN."""
    if logits.shape[1] < 2:
        return np.full(len(logits), np.nan), np.zeros(len(logits), dtype=np.intp)
    first = logits.argmax(axis=1)
    others = logits.copy()
    others[np.arange(len(logits)), first] = -np.inf
    second: Rows = others.argmax(axis=1)
    rows = np.arange(len(logits))
    return logits[rows, first] - logits[rows, second], second
