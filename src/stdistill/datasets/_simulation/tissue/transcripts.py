"""Molecules as points: each counted one gets a place in its cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stdistill._support.jit import njit
from stdistill.datasets._simulation.tissue.cells import N_ANGLES, Cells

_NUCLEAR_SHARE = 0.4
"""Of the molecules of a cell, those thrown at its nuclei; more lie there by chance."""


def place_molecules(
    rng: np.random.Generator, cells: Cells, first_cell: int, counts: sparse.csr_matrix
) -> dict[str, npt.NDArray[np.generic]]:
    """Return cell, feature, x, y, z (µm), quality and whether it is in a nucleus, one value a molecule."""
    per_entry = counts.data
    cell = np.repeat(np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr)), per_entry) + first_cell
    feature = np.repeat(counts.indices, per_entry)
    n = len(cell)
    x, y, in_nucleus = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.uint8)
    nuclei = cells.nuclei
    _place(
        x,
        y,
        in_nucleus,
        cell,
        rng.random((n, 4), dtype=np.float32),
        cells.x,
        cells.y,
        cells.outline,
        cells.first_nucleus,
        nuclei.x,
        nuclei.y,
        nuclei.outline,
    )
    # Decoding is sure of most molecules: quality saturates at 40, and none below 20 is counted.
    quality = np.minimum(20 + rng.gamma(4.0, 6.0, n), 40).astype(np.float32)
    return {
        "cell": cell,
        "feature": feature,
        "x_location": x,
        "y_location": y,
        "z_location": rng.normal(16.0, 2.2, n).clip(9, 24).astype(np.float32),
        "qv": quality,
        "overlaps_nucleus": in_nucleus,
    }


@njit(nogil=True, cache=True)
def _place(
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
    in_nucleus: npt.NDArray[np.uint8],
    cell: npt.NDArray[np.int64],
    uniform: npt.NDArray[np.float32],
    cell_x: npt.NDArray[np.float64],
    cell_y: npt.NDArray[np.float64],
    outline: npt.NDArray[np.float32],
    first_nucleus: npt.NDArray[np.int64],
    nucleus_x: npt.NDArray[np.float64],
    nucleus_y: npt.NDArray[np.float64],
    nucleus_outline: npt.NDArray[np.float32],
) -> None:
    """Throw every molecule at a nucleus or at the cell, and note whether it lies in a nucleus."""
    for i in range(len(x)):
        c = cell[i]
        first, last = first_nucleus[c], first_nucleus[c + 1]
        if last > first and uniform[i, 0] < _NUCLEAR_SHARE:
            # What is left of the first number is as good as a new one.
            n = first + min(int(uniform[i, 0] / _NUCLEAR_SHARE * (last - first)), last - first - 1)
            x[i], y[i] = _in_polygon(nucleus_x[n], nucleus_y[n], nucleus_outline[n], uniform[i])
        else:
            x[i], y[i] = _in_polygon(cell_x[c], cell_y[c], outline[c], uniform[i])
        in_nucleus[i] = 0
        for n in range(first, last):
            if _is_inside(x[i] - nucleus_x[n], y[i] - nucleus_y[n], nucleus_outline[n]):
                in_nucleus[i] = 1


@njit(nogil=True, cache=True)
def _in_polygon(
    x: float, y: float, outline: npt.NDArray[np.float32], uniform: npt.NDArray[np.float32]
) -> tuple[float, float]:
    """Return a place in the polygon through the radii of an outline."""
    step = 2 * np.pi / N_ANGLES
    total = 0.0
    for a in range(N_ANGLES):
        total += outline[a] * outline[(a + 1) % N_ANGLES]
    # Pick a triangle by its area, then a place in it.
    left = uniform[1] * total
    a = 0
    while a < N_ANGLES - 1 and left > outline[a] * outline[(a + 1) % N_ANGLES]:
        left -= outline[a] * outline[(a + 1) % N_ANGLES]
        a += 1
    b = (a + 1) % N_ANGLES
    # Just short of the outline, so that rounding leaves it inside.
    outwards = 0.995 * np.sqrt(uniform[2])
    near, far = outwards * (1 - uniform[3]) * outline[a], outwards * uniform[3] * outline[b]
    return (
        x + near * np.cos(a * step) + far * np.cos(b * step),
        y + near * np.sin(a * step) + far * np.sin(b * step),
    )


@njit(nogil=True, cache=True)
def _is_inside(dx: float, dy: float, outline: npt.NDArray[np.float32]) -> bool:
    """Return whether an offset from the centre lies in the polygon through the radii of an outline."""
    step = 2 * np.pi / N_ANGLES
    a = int(np.floor(np.arctan2(dy, dx) / step)) % N_ANGLES
    b = (a + 1) % N_ANGLES
    ax, ay = outline[a] * np.cos(a * step), outline[a] * np.sin(a * step)
    bx, by = outline[b] * np.cos(b * step), outline[b] * np.sin(b * step)
    return bool((bx - ax) * (dy - ay) - (by - ay) * (dx - ax) >= 0)
