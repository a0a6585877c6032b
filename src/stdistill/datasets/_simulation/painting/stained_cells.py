"""Cells in the stain: cytoplasm, and nuclei with their chromatin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stdistill._support.jit import njit
from stdistill.datasets._simulation.biology.cell_types import LOOK_FIELDS
from stdistill.datasets._simulation.painting.stain import BASOPHILIA, E, H, R
from stdistill.datasets._simulation.tissue.cells import BIN_UM, MAX_REACH_UM, outline_radius
from stdistill.datasets._simulation.tissue.noise import FloatImage, sample_texture, smoothstep

# Columns of the looks.
_HAEMATOXYLIN = LOOK_FIELDS.index("haematoxylin")
_CHROMATIN = LOOK_FIELDS.index("chromatin")
_VESICULAR = LOOK_FIELDS.index("vesicular")
_NUCLEOLUS = LOOK_FIELDS.index("nucleolus")
_CYTOPLASM_EOSIN = LOOK_FIELDS.index("cytoplasm_eosin")
_CYTOPLASM_HAEMATOXYLIN = LOOK_FIELDS.index("cytoplasm_haematoxylin")

DARKNESS, SOFTNESS, NUCLEOLUS_X, NUCLEOLUS_Y, SEEN_NUCLEOLUS = range(5)
"""Columns of what varies from one cell to the next."""


@njit(nogil=True, cache=True, fastmath=True)
def paint_cells(
    stains: FloatImage,
    origin: tuple[int, int],
    to_um: npt.NDArray[np.float64],
    grain: FloatImage,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    outline: npt.NDArray[np.float32],
    looks: npt.NDArray[np.float32],
    vary: npt.NDArray[np.float32],
    first_nucleus: npt.NDArray[np.int64],
    nucleus_x: npt.NDArray[np.float64],
    nucleus_y: npt.NDArray[np.float64],
    nucleus_outline: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    columns: int,
) -> None:
    """Lay all cytoplasm over the ground, then all nuclei over that."""
    rows = (len(starts) - 1) // columns
    low_x, high_x, low_y, high_y = 1e18, -1e18, 1e18, -1e18
    for py in (origin[1], origin[1] + stains.shape[0]):
        for px in (origin[0], origin[0] + stains.shape[1]):
            ux = to_um[0, 0] * px + to_um[0, 1] * py + to_um[0, 2]
            uy = to_um[1, 0] * px + to_um[1, 1] * py + to_um[1, 2]
            low_x, high_x, low_y, high_y = min(low_x, ux), max(high_x, ux), min(low_y, uy), max(high_y, uy)
    margin = MAX_REACH_UM + 2
    first_row, last_row = max(int((low_y - margin) // BIN_UM), 0), min(int((high_y + margin) // BIN_UM), rows - 1)
    first = min(max(int((low_x - margin) // BIN_UM), 0), columns)
    last = min(max(int((high_x + margin) // BIN_UM) + 1, 0), columns)
    for i in range(first_row, last_row + 1):
        for k in range(starts[i * columns + first], starts[i * columns + max(first, last)]):
            cell = order[k]
            _paint_cytoplasm(stains, origin, to_um, grain, x[cell], y[cell], outline[cell], looks[cell])
    for i in range(first_row, last_row + 1):
        for k in range(starts[i * columns + first], starts[i * columns + max(first, last)]):
            cell = order[k]
            for n in range(first_nucleus[cell], first_nucleus[cell + 1]):
                _paint_nucleus(
                    stains,
                    origin,
                    to_um,
                    grain,
                    nucleus_x[n],
                    nucleus_y[n],
                    nucleus_outline[n],
                    looks[cell],
                    vary[cell],
                )


@njit(nogil=True, cache=True, fastmath=True)
def _paint_cytoplasm(
    stains: FloatImage,
    origin: tuple[int, int],
    to_um: npt.NDArray[np.float64],
    grain: FloatImage,
    x: float,
    y: float,
    outline: npt.NDArray[np.float32],
    look: npt.NDArray[np.float32],
) -> None:
    """Mix the stain of a cell into what lies under it."""
    reach = outline.max() + 0.5
    first_row, last_row, first_column, last_column = _window(stains, origin, to_um, x, y, reach)
    for row in range(first_row, last_row):
        for column in range(first_column, last_column):
            px, py = origin[0] + column + 0.5, origin[1] + row + 0.5
            dx = to_um[0, 0] * px + to_um[0, 1] * py + to_um[0, 2] - x
            dy = to_um[1, 0] * px + to_um[1, 1] * py + to_um[1, 2] - y
            r2 = dx * dx + dy * dy
            if r2 > reach * reach:
                continue
            inside = outline_radius(outline, dx, dy) - np.sqrt(r2)
            # Thin at its rim, so that a cell fades into what is around it.
            weight = 0.85 * smoothstep(0.45 * inside + 0.25)
            if weight <= 0:
                continue
            granule = sample_texture(grain, (x + dx) / 0.42 + 71, (y + dy) / 0.42 + 13)
            eosin = look[_CYTOPLASM_EOSIN] * (1 + 0.12 * granule)
            haematoxylin = (look[_CYTOPLASM_HAEMATOXYLIN] + BASOPHILIA) * (1 + 0.15 * granule)
            stains[row, column, E] += weight * (eosin - stains[row, column, E])
            stains[row, column, H] += weight * (haematoxylin - stains[row, column, H])


@njit(nogil=True, cache=True, fastmath=True)
def _paint_nucleus(
    stains: FloatImage,
    origin: tuple[int, int],
    to_um: npt.NDArray[np.float64],
    grain: FloatImage,
    x: float,
    y: float,
    outline: npt.NDArray[np.float32],
    look: npt.NDArray[np.float32],
    vary: npt.NDArray[np.float32],
) -> None:
    """Mix chromatin, rim and nucleolus of a nucleus into what lies under it."""
    softness = vary[SOFTNESS]
    reach = outline.max() + softness
    short = outline.min()
    dark = look[_HAEMATOXYLIN] * vary[DARKNESS]
    nucleolus_x, nucleolus_y = vary[NUCLEOLUS_X] * short, vary[NUCLEOLUS_Y] * short
    first_row, last_row, first_column, last_column = _window(stains, origin, to_um, x, y, reach)
    for row in range(first_row, last_row):
        for column in range(first_column, last_column):
            px, py = origin[0] + column + 0.5, origin[1] + row + 0.5
            dx = to_um[0, 0] * px + to_um[0, 1] * py + to_um[0, 2] - x
            dy = to_um[1, 0] * px + to_um[1, 1] * py + to_um[1, 2] - y
            r2 = dx * dx + dy * dy
            if r2 > reach * reach:
                continue
            edge = outline_radius(outline, dx, dy)
            inside = edge - np.sqrt(r2)
            weight = smoothstep(0.5 * inside / softness + 0.5)
            if weight <= 0:
                continue
            relative = np.sqrt(r2) / max(edge, 0.1)
            clump = sample_texture(grain, (x + dx) / 0.20 + 400, (y + dy) / 0.20 + 150)
            coarse = sample_texture(grain, (x + dx) / 0.45 + 820, (y + dy) / 0.45 + 610)
            chromatin = look[_CHROMATIN] * (0.17 * clump + 0.14 * coarse)
            rim = 0.22 * look[_VESICULAR] * smoothstep((relative - 0.65) / 0.25)
            paler = 0.55 * look[_VESICULAR] * smoothstep((1 - relative) / 0.55)
            amount = dark * max(1 + chromatin + rim - paler, 0.15)
            if look[_NUCLEOLUS] > 0.05 and vary[SEEN_NUCLEOLUS] > 0:
                away = np.sqrt((dx - nucleolus_x) ** 2 + (dy - nucleolus_y) ** 2)
                amount += 0.55 * dark * smoothstep((look[_NUCLEOLUS] - away) / 0.5 + 0.5)
            stains[row, column, H] += weight * (amount - stains[row, column, H])
            stains[row, column, E] += weight * (0.16 - stains[row, column, E])
            stains[row, column, R] *= 1 - weight


@njit(nogil=True, cache=True)
def _window(
    stains: FloatImage, origin: tuple[int, int], to_um: npt.NDArray[np.float64], x: float, y: float, reach: float
) -> tuple[int, int, int, int]:
    """Return first and last rows and columns within ``reach`` µm of a place on the slide."""
    determinant = to_um[0, 0] * to_um[1, 1] - to_um[0, 1] * to_um[1, 0]
    dx, dy = x - to_um[0, 2], y - to_um[1, 2]
    column = (to_um[1, 1] * dx - to_um[0, 1] * dy) / determinant - origin[0]
    row = (to_um[0, 0] * dy - to_um[1, 0] * dx) / determinant - origin[1]
    reach_px = reach / np.sqrt(abs(determinant)) + 1
    return (
        max(int(row - reach_px), 0),
        min(int(row + reach_px) + 1, stains.shape[0]),
        max(int(column - reach_px), 0),
        min(int(column + reach_px) + 1, stains.shape[1]),
    )
