"""Blocks of tissue held out of the training cells, to stop, choose or judge by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Floats, Integers

SHARE = 0.1
"""Share of the training cells that are held out."""
MOST = 5_000
"""Cells are enough for that."""
BLOCK_RADII = 8
"""Side of a block in radii: large, so that few cells lie at its edge."""
MIN_BLOCK_RADII = 2
MIN_BLOCKS = 20
"""Tissue with fewer blocks than this is cut into smaller ones."""


def hold_out_blocks(
    centers: Floats,
    libraries: Integers,
    indptr: Integers,
    indices: Integers,
    training: npt.NDArray[np.bool_],
    *,
    radius_um: float,
    seed: int,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Divide training cells into some to learn from, and some held out, of which the former see none.

    The tissue is cut into square blocks, about a tenth of whose cells, but no more than some 5,000, in whole blocks,
    are held out. Training cells with one of them in their neighbourhood are left out of both. That, and all
    numbers, are our choice.

    Parameters
    ----------
    centers, libraries
        (n, 2) in µm, and (n,), number of each cell's slide.
    indptr, indices
        The graph in CSR form.
    training
        (n,), the cells to divide.
    radius_um
        Radius of the graph.
    seed
        Of the choice of blocks.

    Returns
    -------
    Two (n,) masks. The second is empty when the tissue is too small for blocks of two radii.
    """
    none = np.zeros(len(centers), dtype=bool)
    cells = np.flatnonzero(training)
    if not len(cells):
        return training, none
    block = _blocks(centers[cells], libraries[cells], BLOCK_RADII * radius_um)
    side = BLOCK_RADII
    while block.max() + 1 < MIN_BLOCKS and side > MIN_BLOCK_RADII:
        side //= 2
        block = _blocks(centers[cells], libraries[cells], side * radius_um)
    sizes = np.bincount(block)
    if len(sizes) < MIN_BLOCKS:
        return training, none
    order = np.random.default_rng(seed).permutation(len(sizes))
    n_chosen = int(np.searchsorted(np.cumsum(sizes[order]), min(SHARE * len(cells), MOST))) + 1
    held_out = none.copy()
    held_out[cells[np.isin(block, order[:n_chosen])]] = True
    sees = np.add.reduceat(np.append(held_out[indices], False), indptr[:-1]) * (np.diff(indptr) > 0)
    return training & ~held_out & (sees == 0), held_out


def _blocks(centers: Floats, libraries: Integers, side_um: float) -> Integers:
    squares = np.floor((centers - centers.min(axis=0)) / side_um).astype(np.int64)
    _, block = np.unique(np.column_stack([libraries, squares]), axis=0, return_inverse=True)
    return block.reshape(-1)
