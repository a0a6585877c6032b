"""Folds for cross-validation on a slide: square blocks, with a gap between those to fit on and those to score."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Fold(NamedTuple):
    """Cells of one round, by their rows."""

    fit: npt.NDArray[np.intp]
    score: npt.NDArray[np.intp]


def block_folds(
    centers: npt.NDArray[np.float64],
    classes: npt.NDArray[np.integer],
    *,
    n_folds: int,
    block_um: float,
    gap_um: float,
) -> list[Fold]:
    """Divide the blocks of a grid into folds in which the classes are as balanced as blocks allow.

    Parameters
    ----------
    centers
        (n, 2), µm.
    classes
        (n,), class of each cell.
    n_folds
        Number of folds; there are as many blocks with cells at least.
    block_um
        Side of a block.
    gap_um
        Cells nearer than this to a block that is scored are not fitted on; at most `block_um`.

    Returns
    -------
    The folds; every cell is scored in one of them.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    places, blocks, block_of_cell = _grid(centers, block_um)
    fold_of_block = np.empty(len(blocks), dtype=np.intp)
    splitter = StratifiedGroupKFold(n_folds)
    for fold, (_, scored) in enumerate(splitter.split(centers, classes, block_of_cell)):
        fold_of_block[block_of_cell[scored]] = fold
    near = _near(places, blocks, fold_of_block, n_folds, gap_um / block_um)
    fold_of_cell = fold_of_block[block_of_cell]
    return [
        Fold(np.flatnonzero((fold_of_cell != fold) & ~near[:, fold]), np.flatnonzero(fold_of_cell == fold))
        for fold in range(n_folds)
    ]


def blocks_of(centers: npt.NDArray[np.float64], block_um: float) -> npt.NDArray[np.intp]:
    """Return the number of each cell's block."""
    return _grid(centers, block_um)[2]


def _grid(
    centers: npt.NDArray[np.float64], block_um: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Return places in units of blocks, the ids of the blocks that hold cells, and the block of each cell."""
    places = (centers - centers.min(axis=0)) / block_um
    blocks, block_of_cell = np.unique(_block_ids(places, places), return_inverse=True)
    return places, blocks, block_of_cell.ravel()


def _block_ids(places: npt.NDArray[np.float64], extent: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the number of each place's square; a free column at both sides keeps rows apart."""
    column, row = np.floor(places).astype(np.int64).T + 1
    ids: npt.NDArray[np.int64] = row * (int(extent[:, 0].max()) + 3) + column
    return ids


def _near(
    places: npt.NDArray[np.float64],
    blocks: npt.NDArray[np.int64],
    fold_of_block: npt.NDArray[np.intp],
    n_folds: int,
    gap: float,
) -> npt.NDArray[np.bool_]:
    """Tell for each cell and fold whether a block of the fold, other than the cell's own, is within the gap."""
    near = np.zeros((len(places), n_folds), dtype=bool)
    within = places - np.floor(places)
    for step in product((-1, 0, 1), repeat=2):
        if step == (0, 0):
            continue
        # To the left it is as far as the cell lies within its block, to the right what is left of the block.
        away = np.where(np.array(step) < 0, within, 1 - within) * np.abs(step)
        ids = _block_ids(places + step, places)
        at = np.minimum(np.searchsorted(blocks, ids), len(blocks) - 1)
        cells = np.flatnonzero((blocks[at] == ids) & (np.hypot(*away.T) < gap))
        near[cells, fold_of_block[at[cells]]] = True
    return near
