"""Cells and nuclei as outlines around centres, and how to find those near a place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Float64s
from stdistill._support.jit import njit

N_ANGLES = 24
"""Outlines are radii at this many equal angles around a centre, so every outline is star-shaped."""
MAX_REACH_UM = 15.0
"""No outline reaches farther from its centre."""
BIN_UM = 16.0
"""Side of the squares in which neighbours are looked up."""

"""One value a cell or nucleus."""
Outlines = npt.NDArray[np.float32]
"""Cell or nucleus by angle, µm."""


@dataclass(frozen=True)
class Cells:
    """The cells of a section, sorted so that neighbours in space are near each other in the arrays."""

    x: Float64s
    y: Float64s
    """Where the outlines are centred, µm."""
    niche: npt.NDArray[np.uint8]
    cell_type: npt.NDArray[np.uint8]
    outline: Outlines
    n_nuclei: npt.NDArray[np.uint8]
    nuclei: Nuclei

    def __len__(self) -> int:
        return len(self.x)

    @property
    def first_nucleus(self) -> npt.NDArray[np.int64]:
        """Where the nuclei of each cell start, and where those of the last one end."""
        return np.concatenate([[0], np.cumsum(self.n_nuclei, dtype=np.int64)])


@dataclass(frozen=True)
class Nuclei:
    """The nuclei of all cells, in the order of their cells."""

    cell: npt.NDArray[np.int64]
    """Index of the cell."""
    x: Float64s
    y: Float64s
    outline: Outlines

    def __len__(self) -> int:
        return len(self.x)


def spatial_bins(x: Float64s, y: Float64s) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Sort cells into square bins: the order, where each bin starts in it, and the number of columns."""
    column, row = (x // BIN_UM).astype(np.int64), (y // BIN_UM).astype(np.int64)
    columns = int(column.max()) + 1
    key = row * columns + column
    order = np.argsort(key, kind="stable")
    starts = np.searchsorted(key[order], np.arange((int(row.max()) + 1) * columns + 1))
    return order, starts, columns


@njit(nogil=True, cache=True, inline="always")
def outline_radius(outline: npt.NDArray[np.float32], dx: float, dy: float) -> float:
    """Return the radius of an outline in the direction of an offset from its centre."""
    turn = np.arctan2(dy, dx) * (N_ANGLES / (2 * np.pi))
    if turn < 0:
        turn += N_ANGLES
    a = int(turn)
    t = turn - a
    a = a % N_ANGLES
    b = (a + 1) % N_ANGLES
    return float(outline[a] + t * (outline[b] - outline[a]))
