"""Tests by permutation: what is left after the covariates is dealt out anew, within blocks."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stdistill._support.arrays import Float64s, Rows

AT_ONCE = 1000
"""Orders that are computed at once, which bounds the memory."""
ROUNDING = 1e-9
"""Statistics that differ by no larger a share are the same, as those of mirrored orders are."""


class Orders(NamedTuple):
    """Orders of rows, the observed one among them."""

    rows: Rows
    """(m, n)."""
    n_distinct: int
    """How many there are in all; when `rows` has as many, they are all there."""
    smallest_p: float
    """What no p-value can be below."""


def make_orders(group: Float64s, blocks: Rows, *, has_covariates: bool, n_permutations: int, seed: int) -> Orders:
    """Return all distinct orders of the rows within blocks, or, if these are more than asked for, so many at random.

    Parameters
    ----------
    group
        (n,). Without covariates rows of one group are the same to a test, and need not change places.
    blocks
        (n,). Only rows of one block change places.
    has_covariates
        Whether residuals are permuted, of which no two are the same.
    n_permutations
        How many, beside the observed order.
    seed
        Of those that are drawn.
    """
    members = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    told_apart = np.arange(len(group)) if has_covariates else np.unique(group, return_inverse=True)[1]
    values = [told_apart[rows] for rows in members]
    n_distinct = math.prod(_count(each) for each in values)
    if n_distinct <= n_permutations + 1:
        orders = _all_orders(members, values)
    else:
        orders = _random_orders(blocks, n_permutations, seed)
    # Where the groups are mirrored, each order has one with the opposite effect, as large.
    mirrored = not has_covariates and all(_is_symmetric(group[rows]) for rows in members)
    smallest = max((1 + mirrored) / n_distinct, 1 / len(orders))
    return Orders(orders, n_distinct, smallest)


def _count(values: Rows) -> int:
    """Count the distinct orders of numbers, some of which are equal."""
    return math.factorial(len(values)) // math.prod(math.factorial(n) for n in Counter(values.tolist()).values())


def _is_symmetric(group: Float64s) -> bool:
    centred = np.sort(group - (group.max() + group.min()) / 2)
    return bool(np.allclose(centred, -centred[::-1]))


def _all_orders(members: list[Rows], values: list[Rows]) -> Rows:
    """Combine the distinct orders of every block."""
    choices = []
    for rows, each in zip(members, values, strict=True):
        by_value = rows[np.argsort(each, kind="stable")]
        found = np.array(list(_arrangements(sorted(each.tolist()))))
        # The first place with a value gets the first row that has it, and so on.
        places = np.argsort(found, axis=1, kind="stable")
        orders = np.empty_like(found)
        np.put_along_axis(orders, places, np.broadcast_to(by_value, found.shape), axis=1)
        choices.append(orders)
    combined = np.empty((math.prod(map(len, choices)), sum(map(len, members))), dtype=np.intp)
    for number, picked in enumerate(itertools.product(*choices)):
        for rows, order in zip(members, picked, strict=True):
            combined[number, rows] = order
    return combined


def _arrangements(values: list[int]) -> Iterator[list[int]]:
    """Yield the distinct orders of sorted numbers, each the next in the order of a dictionary."""
    while True:
        yield values.copy()
        rising = next((i for i in range(len(values) - 2, -1, -1) if values[i] < values[i + 1]), None)
        if rising is None:
            return
        larger = next(i for i in range(len(values) - 1, rising, -1) if values[i] > values[rising])
        values[rising], values[larger] = values[larger], values[rising]
        values[rising + 1 :] = reversed(values[rising + 1 :])


def _random_orders(blocks: Rows, n_permutations: int, seed: int) -> Rows:
    """Draw orders of the rows within blocks; the first is the observed one."""
    drawn = np.random.default_rng(seed).random((n_permutations, len(blocks)))
    codes = np.unique(blocks, return_inverse=True)[1]
    orders = np.empty((n_permutations + 1, len(blocks)), dtype=np.intp)
    orders[0] = np.arange(len(blocks))
    orders[1:, np.argsort(codes, kind="stable")] = np.argsort(codes + drawn, axis=1)
    return orders


def permutation_p(values: Float64s, group: Float64s, covariates: Float64s, blocks: Rows, orders: Rows) -> Float64s:
    """Compute the share of orders in which the group explains each column at least as well as it does: (k,).

    Residuals of the columns on the covariates are permuted (Freedman & Lane 1983), and in each order the group is
    tested beside the covariates, both ways. Each block has a mean of its own.

    Parameters
    ----------
    values
        (n, k).
    group
        (n,).
    covariates
        (n, p), without a constant; p may be 0.
    blocks
        (n,); orders change no row's block.
    orders
        (m, n), the observed order among them.
    """
    codes = np.unique(blocks, return_inverse=True)[1]
    basis = _basis(_centre(covariates, codes))
    rest = _residuals(_centre(values, codes), basis)
    own = _residuals(_centre(group[:, None], codes), basis)[:, 0]
    total = (rest**2).sum(axis=0)

    def explained(some: Rows) -> Float64s:
        """Compute the share of what is left that the group explains, which rises with the square of its t."""
        along = (own[some] @ rest) ** 2 / (own @ own)
        left = total - (np.einsum("mnp,nk->mpk", basis[some], rest) ** 2).sum(axis=1)
        share: Float64s = np.divide(along, left, out=np.zeros_like(along), where=left > ROUNDING * total)
        return share

    observed = explained(np.arange(len(group))[None])[0]
    reached = np.zeros(values.shape[1])
    for start in range(0, len(orders), AT_ONCE):
        reached += (explained(orders[start : start + AT_ONCE]) >= observed * (1 - ROUNDING)).sum(axis=0)
    p: Float64s = reached / len(orders)
    return p


def _centre(values: Float64s, codes: Rows) -> Float64s:
    """Subtract from each column its mean in each block."""
    sizes = np.bincount(codes)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, codes, values)
    centred: Float64s = values - (sums / sizes[:, None])[codes]
    return centred


def _basis(columns: Float64s) -> Float64s:
    """Return an orthonormal basis (n, rank) of the columns."""
    vectors, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    basis: Float64s = vectors[:, sizes > ROUNDING * max(1.0, sizes.max(initial=0.0))]
    return basis


def _residuals(values: Float64s, basis: Float64s) -> Float64s:
    left: Float64s = values - basis @ (basis.T @ values)
    return left
