"""Which training rows are held out, to stop training by and to choose a penalty: whole groups, never rows at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from stdistill._support.arrays import Float64s, Integers, Mask
from stdistill._support.warn import warn
from stdistill._training.holdout import hold_out_blocks


class Fold(NamedTuple):
    """Rows to learn from, and rows that are held out."""

    fitting: Integers
    held_out: Integers


class Tissue(NamedTuple):
    """Where rows lie, for those who have no groups to hold out."""

    centers: Float64s
    """(n, 2), µm."""
    libraries: Integers
    """(n,), number of each row's slide."""
    indptr: Integers
    indices: Integers
    """The graph in CSR form; without edges where there is none."""
    radius_um: float
    """Within which rows show the same tissue."""
    spacing_um: float
    """Within which they are next to each other: what a slide has to make do with that is too small for more."""


FEWEST_PARTS = 5
"""Groups are joined to no fewer parts than this: what is held out is small beside what is learned from."""
MOST_HELD_OUT = 2
"""A large group is not held out to learn from a small one: at most so many times the rows of that (our choice)."""


def hold_out(
    training: Mask, groupings: Sequence[Integers], tissue: Callable[[], Tissue], *, n: int, seed: int
) -> list[Fold]:
    """Divide the training rows into some to learn from and some to stop by, in up to `n` ways.

    Rows of one section are alike: some of them held out at random say how well the others are remembered. So whole
    groups are held out, by the first of the groupings that has several; of a single group, blocks of its tissue, and
    nothing is learned from rows within reach of these.

    Parameters
    ----------
    training
        (n_rows,).
    groupings
        (n_rows,) numbers of groups, such as patients, and then sections.
    tissue
        Says where the rows lie.
    n
        How many ways at most: there are as many as groups, where these are fewer.
    seed
        Of what is drawn.

    Raises
    ------
    ValueError
        When there is one group, with too little tissue for blocks.
    """
    rows = np.flatnonzero(training)
    for groups in groupings:
        present, codes = np.unique(groups[rows], return_inverse=True)
        if len(present) > 1:
            parts = _parts(codes, max(n, FEWEST_PARTS), seed)
            folds = [Fold(rows[parts != part], rows[parts == part]) for part in range(parts.max() + 1)]
            folds = [fold for fold in folds if len(fold.held_out) <= MOST_HELD_OUT * len(fold.fitting)]
            if folds:
                return folds[:n]
    place = tissue()
    for reach_um in (place.radius_um, place.spacing_um):
        folds = [_blocks(training, place, reach_um, seed + draw) for draw in range(n)]
        if all(len(part) for fold in folds for part in fold):
            break
    else:
        msg = (
            f"The {len(rows)} training rows are of one slide, which is too small to hold blocks of "
            f"{2 * place.spacing_um:.0f} µm of it out, and training has to be stopped by rows that it does not learn "
            "from. Give several slides, or group_key= with a column of groups to hold out."
        )
        raise ValueError(msg)
    if reach_um < place.radius_um:
        warn(
            f"The slide is too small to hold out blocks with nothing around them within {place.radius_um:.0f} µm, as "
            "far as crops and neighbourhoods reach. What stops training, or chooses a penalty, shows tissue that is "
            "learned from. Several slides are better."
        )
    return folds


def _blocks(training: Mask, tissue: Tissue, reach_um: float, seed: int) -> Fold:
    """Hold out blocks, and leave out what is within reach of these."""
    fitting, held_out = hold_out_blocks(*tissue[:4], training, radius_um=reach_um, seed=seed)
    rows, held = np.flatnonzero(fitting), np.flatnonzero(held_out)
    near = np.zeros(len(rows), dtype=bool)
    for library in np.unique(tissue.libraries[held]):
        mine = tissue.libraries[rows] == library
        blocks = cKDTree(tissue.centers[held[tissue.libraries[held] == library]])
        near[mine] = blocks.query(tissue.centers[rows[mine]], p=np.inf, distance_upper_bound=reach_um)[0] < reach_um
    return Fold(rows[~near], held)


def _parts(codes: Integers, n: int, seed: int) -> Integers:
    """Join groups (rows,) to at most `n` parts of about the same size, larger groups first and then by chance."""
    sizes = np.bincount(codes)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    totals = np.zeros(min(n, len(sizes)), dtype=np.int64)
    part = np.empty(len(sizes), dtype=np.int64)
    for group in order:
        part[group] = totals.argmin()
        totals[part[group]] += sizes[group]
    return part[codes]
