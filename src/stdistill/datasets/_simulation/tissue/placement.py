"""Where cells lie, and of which type and niche they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stdistill._support.jit import njit
from stdistill.datasets._simulation.biology.cell_types import CellTypes
from stdistill.datasets._simulation.biology.niches import Niches
from stdistill.datasets._simulation.tissue.anatomy import CLEARANCE_UNIT_UM, Anatomy
from stdistill.datasets._simulation.tissue.anatomy import STEP_UM as ANATOMY_STEP_UM
from stdistill.datasets._simulation.tissue.cells import BIN_UM
from stdistill.datasets._simulation.tissue.tissue import Tissue

X, Y, CORE, TYPE, NICHE, ZONE = COLUMNS = range(6)
"""Columns of the placed cells. The core is a disc of the area of the nucleus; no two cores overlap."""

Placed = npt.NDArray[np.float64]
"""One row a cell."""

_PITCH_UM = 10.0
"""Side of the squares into each of which one cell is thrown in every pass."""
_PASSES = 24
_SLOTS = 24
"""Cells that a bin has room for."""
_GAP_UM = 0.3
"""Between two cores."""
_MAX_CORE_UM = (BIN_UM - _GAP_UM) / 2
"""Neighbours are looked up in adjacent bins only, so two cores must not reach farther than one bin."""


def place_cells(
    rng: np.random.Generator, tissue: Tissue, anatomy: Anatomy, niches: Niches, cell_types: CellTypes
) -> Placed:
    """Throw cells at the slide in passes over a jittered grid; a throw that hits a cell is void."""
    rows, columns = int(tissue.height_um / _PITCH_UM), int(tissue.width_um / _PITCH_UM)
    bins = np.full((int(tissue.height_um / BIN_UM) + 1, int(tissue.width_um / BIN_UM) + 1, _SLOTS), -1, np.int32)
    chance = niches.density * _PITCH_UM**2 / 1e6 / _PASSES
    types = np.cumsum(niches.composition, axis=2)
    core = np.sqrt(cell_types.look("nucleus_area") / np.pi).astype(float)
    # Area varies twice as much as radius.
    core_cv = cell_types.look("area_cv").astype(float) / 2
    placed = np.empty((0, len(COLUMNS)))
    for _ in range(_PASSES):
        uniform = rng.random((rows, columns, 5), dtype=np.float32)
        normal = rng.standard_normal((rows, columns), dtype=np.float32)
        offered = np.concatenate(
            [placed, np.empty((int(uniform[..., 2].size * min(1, chance.max()) * 1.3) + 100, len(COLUMNS)))]
        )
        n_placed = _throw(
            offered,
            len(placed),
            bins,
            uniform,
            normal,
            anatomy.zone,
            anatomy.clearance,
            tissue.domains,
            tissue.step_um,
            chance,
            types,
            core,
            core_cv,
        )
        placed = offered[:n_placed]
    return placed


@njit(nogil=True, cache=True)
def _throw(
    placed: npt.NDArray[np.float64],
    n_placed: int,
    bins: npt.NDArray[np.int32],
    uniform: npt.NDArray[np.float32],
    normal: npt.NDArray[np.float32],
    zone: npt.NDArray[np.uint8],
    clearance: npt.NDArray[np.int8],
    domains: npt.NDArray[np.uint8],
    domains_step: float,
    chance: npt.NDArray[np.float64],
    types: npt.NDArray[np.float64],
    core: npt.NDArray[np.float64],
    core_cv: npt.NDArray[np.float64],
) -> int:
    """Throw one cell at every square; append those that find room, and return how many there are then."""
    n_niches = domains.shape[2]
    for row in range(uniform.shape[0]):
        for column in range(uniform.shape[1]):
            u = uniform[row, column]
            x, y = (column + u[0]) * _PITCH_UM, (row + u[1]) * _PITCH_UM
            i, j = int(y / ANATOMY_STEP_UM), int(x / ANATOMY_STEP_UM)
            kind = zone[i, j]
            here = domains[int(y / domains_step), int(x / domains_step)]
            niche = 0
            while niche < n_niches - 1 and here[niche] <= u[3] * 255:
                niche += 1
            if u[2] >= chance[niche, kind]:
                continue
            cell_type = 0
            while cell_type < types.shape[2] - 1 and types[niche, kind, cell_type] <= u[4]:
                cell_type += 1
            radius = core[cell_type] * np.exp(core_cv[cell_type] * min(max(normal[row, column], -2.0), 2.0))
            radius = min(radius, _MAX_CORE_UM)
            # A nucleus may touch the edge of a hole, but not hang over it.
            if clearance[i, j] * CLEARANCE_UNIT_UM < min(0.75 * radius, 2.5):
                continue
            if _is_free(placed, bins, x, y, radius):
                slot = bins[int(y / BIN_UM), int(x / BIN_UM)]
                for k in range(_SLOTS):
                    if slot[k] < 0:
                        slot[k] = n_placed
                        placed[n_placed] = np.array([x, y, radius, cell_type, niche, kind])
                        n_placed += 1
                        break
                if n_placed == len(placed):
                    return n_placed
    return n_placed


@njit(nogil=True, cache=True)
def _is_free(placed: npt.NDArray[np.float64], bins: npt.NDArray[np.int32], x: float, y: float, radius: float) -> bool:
    """Return whether a core at a place keeps its gap to all others."""
    row, column = int(y / BIN_UM), int(x / BIN_UM)
    for i in range(max(row - 1, 0), min(row + 2, bins.shape[0])):
        for j in range(max(column - 1, 0), min(column + 2, bins.shape[1])):
            for k in range(_SLOTS):
                other = bins[i, j, k]
                if other < 0:
                    break
                reach = radius + placed[other, CORE] + _GAP_UM
                if (placed[other, X] - x) ** 2 + (placed[other, Y] - y) ** 2 < reach * reach:
                    return False
    return True
