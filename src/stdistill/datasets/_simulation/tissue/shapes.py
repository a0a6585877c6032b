"""Outlines of cells and nuclei: turned along the tissue, and cut where cells meet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Float64s
from stdistill._support.jit import njit
from stdistill.datasets._simulation.biology.cell_types import CellTypes
from stdistill.datasets._simulation.biology.niches import GLAND, NEST, STROMA, WALL
from stdistill.datasets._simulation.tissue.anatomy import CLEARANCE_UNIT_UM, Anatomy
from stdistill.datasets._simulation.tissue.anatomy import STEP_UM as ANATOMY_STEP_UM
from stdistill.datasets._simulation.tissue.cells import (
    BIN_UM,
    MAX_REACH_UM,
    N_ANGLES,
    Cells,
    Nuclei,
    Outlines,
    spatial_bins,
)
from stdistill.datasets._simulation.tissue.noise import sample_many, sample_raster
from stdistill.datasets._simulation.tissue.placement import CORE, NICHE, TYPE, ZONE, X, Y
from stdistill.datasets._simulation.tissue.tissue import Tissue


def shape_cells(
    rng: np.random.Generator,
    placed: Float64s,
    tissue: Tissue,
    anatomy: Anatomy,
    cell_types: CellTypes,
    one_nucleus: bool,
) -> Cells:
    """Give every placed cell an outline, and a nucleus, two or none (always one if ``one_nucleus``)."""
    n = len(placed)
    x, y, core = (np.ascontiguousarray(placed[:, i]) for i in (X, Y, CORE))
    cell_type, niche, zone = (placed[:, i].astype(np.uint8) for i in (TYPE, NICHE, ZONE))
    angle = _long_axis(rng, x, y, zone, tissue, anatomy)
    look = {name: cell_types.look(name)[cell_type] for name in ("aspect", "irregularity", "cytoplasm", "eccentricity")}
    aspect = 1 + (look["aspect"] - 1) * rng.lognormal(0, 0.25, n)
    margin = look["cytoplasm"] * rng.lognormal(0, 0.25, n)

    theta = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
    turned = theta[None, :] - angle[:, None]
    nucleus = core[:, None] / np.sqrt(np.cos(turned) ** 2 / aspect[:, None] + np.sin(turned) ** 2 * aspect[:, None])
    for wave in (2, 3, 4):
        bump = look["irregularity"] * rng.standard_normal(n) * 2 / wave
        nucleus *= 1 + np.clip(bump, -0.5, 0.5)[:, None] * np.cos(wave * (theta + rng.uniform(0, 6.3, n)[:, None]))
    side = np.cos(theta - rng.uniform(0, 2 * np.pi, n)[:, None])
    reach = nucleus + margin[:, None] * (1 + look["eccentricity"][:, None] * side)
    outline: Outlines = np.minimum(reach, MAX_REACH_UM).astype(np.float32)
    _confine(outline, x, y, core, *spatial_bins(x, y), anatomy.clearance)
    nucleus_outline: Outlines = np.minimum(nucleus, 0.92 * outline).astype(np.float32)

    n_nuclei = np.ones(n, np.uint8)
    if not one_nucleus:
        chance = rng.random(n)
        n_nuclei[chance < 0.03] = 0
        n_nuclei[(chance > 0.975) & (outline.min(axis=1) > 3.5)] = 2
    nuclei = _nuclei(x, y, angle, outline, nucleus_outline, n_nuclei)
    return Cells(x, y, niche, cell_type, outline, n_nuclei, nuclei)


def _long_axis(
    rng: np.random.Generator,
    x: Float64s,
    y: Float64s,
    zone: npt.NDArray[np.uint8],
    tissue: Tissue,
    anatomy: Anatomy,
) -> Float64s:
    """Nuclei lie along fibres and vessel walls, stand upright on the lumen of a gland, and else point anywhere."""
    reach = 4.0 / ANATOMY_STEP_UM
    gx, gy = x / ANATOMY_STEP_UM, y / ANATOMY_STEP_UM
    clearance = anatomy.clearance
    slope_x = sample_many(clearance, gx + reach, gy) - sample_many(clearance, gx - reach, gy)
    slope_y = sample_many(clearance, gx, gy + reach) - sample_many(clearance, gx, gy - reach)
    from_hole = np.arctan2(slope_y, slope_x)
    column = (x / tissue.step_um).astype(int)
    row = (y / tissue.step_um).astype(int)
    angle = tissue.fibre_angle[row, column] + 0.2 * rng.standard_normal(len(x))
    anywhere = rng.uniform(0, np.pi, len(x))
    angle = np.where((zone == NEST) | (zone == GLAND), anywhere, angle)
    sloped = np.hypot(slope_x, slope_y) > 4.0
    wobble = 0.15 * rng.standard_normal(len(x))
    angle = np.where((zone == GLAND) & sloped, from_hole + wobble, angle)
    near_hole = sample_many(clearance, gx, gy) * CLEARANCE_UNIT_UM < 4.0
    along_hole = sloped & ((zone == WALL) | (zone == STROMA) & near_hole)
    return np.where(along_hole, from_hole + np.pi / 2 + wobble, angle)


def _nuclei(
    x: Float64s, y: Float64s, angle: Float64s, outline: Outlines, nucleus: Outlines, n_nuclei: npt.NDArray[np.uint8]
) -> Nuclei:
    """Give every cell its nuclei: one in its middle, or two along its axis."""
    cell = np.repeat(np.arange(len(x)), n_nuclei)
    nuclei = Nuclei(cell, x[cell], y[cell], nucleus[cell])
    second = np.flatnonzero(np.diff(cell) == 0) + 1
    # Two nuclei are discs side by side, small enough to stay in the largest disc within the cell.
    room = outline[cell[second]].min(axis=1)
    for pair, sign in ((second - 1, -1), (second, 1)):
        nuclei.x[pair] += sign * 0.47 * room * np.cos(angle[cell[second]])
        nuclei.y[pair] += sign * 0.47 * room * np.sin(angle[cell[second]])
        nuclei.outline[pair] = 0.44 * room[:, None]
    return nuclei


@njit(nogil=True, cache=True)
def _confine(
    outline: Outlines,
    x: Float64s,
    y: Float64s,
    core: Float64s,
    order: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    columns: int,
    clearance: npt.NDArray[np.int8],
) -> None:
    """Cut outlines, in place, where they meet a neighbour (half-way, weighted by size) or a hole."""
    cos = np.cos(np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES))
    sin = np.sin(np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES))
    rows = (len(starts) - 1) // columns
    for cell in range(len(x)):
        row, column = int(y[cell] // BIN_UM), int(x[cell] // BIN_UM)
        for i in range(max(row - 2, 0), min(row + 3, rows)):
            first, last = max(column - 2, 0), min(column + 3, columns)
            for k in range(starts[i * columns + first], starts[i * columns + last]):
                other = order[k]
                dx, dy = x[other] - x[cell], y[other] - y[cell]
                distance = np.sqrt(dx * dx + dy * dy)
                if other == cell or distance > 2 * MAX_REACH_UM:
                    continue
                # The line where both discs have the same power: cells bounded by such lines are convex.
                to_line = 0.5 * (distance + (core[cell] ** 2 - core[other] ** 2) / distance)
                for a in range(N_ANGLES):
                    towards = (dx * cos[a] + dy * sin[a]) / distance
                    if towards > 0 and outline[cell, a] * towards > 0.98 * to_line:
                        outline[cell, a] = 0.98 * to_line / towards
        for a in range(N_ANGLES):
            reach = 1.5
            while reach < outline[cell, a]:
                px, py = (x[cell] + reach * cos[a]) / ANATOMY_STEP_UM, (y[cell] + reach * sin[a]) / ANATOMY_STEP_UM
                if sample_raster(clearance, px, py) < 0:
                    outline[cell, a] = reach
                    break
                reach += 0.5
