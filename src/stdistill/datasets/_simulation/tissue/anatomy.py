"""Microanatomy: glands, fat, vessels, nests and tears, as rasters fine enough to draw from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stdistill._support.jit import njit
from stdistill.datasets._simulation.biology.niches import APICAL, BLOOD, GLAND, NEST, STROMA, VOID, WALL, Niches
from stdistill.datasets._simulation.tissue.noise import FloatImage, periodic_texture, sample_raster, sample_texture
from stdistill.datasets._simulation.tissue.tissue import NEST_LEVEL, Tissue

STEP_UM = 2.0
"""Between the pixels of the rasters."""
CLEARANCE_UNIT_UM = 0.25
"""Clearances are stored in quarters of a µm, and saturate."""
_MAX_CLEARANCE_UM = 31.0

_X, _Y, _RADIUS, _STRETCH, _ANGLE, _LUMEN, _RIM = range(7)
"""Columns of a lattice: an ellipse (no ellipse where the radius is 0), its lumen, and its rim."""

Lattice = tuple[npt.NDArray[np.float64], float]
"""One jittered ellipse a square of a grid (rows, columns, properties), and the side of the squares in µm."""


@dataclass(frozen=True)
class Anatomy:
    """Rasters with :data:`STEP_UM` between pixels, starting at the origin of the slide."""

    zone: npt.NDArray[np.uint8]
    """One of the zones of :mod:`~stdistill.datasets._simulation.biology.niches`."""
    clearance: npt.NDArray[np.int8]
    """Distance to the nearest hole or edge of the tissue, negative inside of it."""


def draw_anatomy(rng: np.random.Generator, tissue: Tissue, niches: Niches) -> Anatomy:
    """Draw the microanatomy of a section, not yet cut to its outline."""
    shape = (int(np.ceil(tissue.height_um / STEP_UM)) + 1, int(np.ceil(tissue.width_um / STEP_UM)) + 1)
    anatomy = Anatomy(np.empty(shape, np.uint8), np.empty(shape, np.int8))
    structure = niches.structure

    glands, niche = _lattice(rng, tissue, rng.uniform(115, 150), structure["glands"])
    size = niche.shape
    glands[0][..., _RADIUS] *= structure["gland_radius"][niche] * rng.lognormal(0, 0.2, size)
    glands[0][..., _STRETCH] = rng.lognormal(0.15, 0.25, size)
    glands[0][..., _LUMEN] = np.clip(structure["lumen"][niche] * rng.uniform(0.4, 1.25, size), 0, 0.75)
    glands[0][..., _RIM] = structure["apical"][niche]

    fat, niche = _lattice(rng, tissue, rng.uniform(50, 66), structure["fat"], jitter=0.42)
    fat[0][..., _RADIUS] *= 0.72 * fat[1]
    fat[0][..., _RIM] = rng.uniform(1.0, 1.8, niche.shape)

    vessels, niche = _lattice(rng, tissue, rng.uniform(140, 200), structure["vessels"])
    size = niche.shape
    vessels[0][..., _RADIUS] *= np.clip(5.0 * rng.lognormal(0, 0.65, size), 3, 38)
    vessels[0][..., _STRETCH] = rng.lognormal(0.3, 0.35, size)
    vessels[0][..., _LUMEN] = rng.random(size) < 0.66  # whether there is blood in it
    vessels[0][..., _RIM] = 2.5 + 0.3 * vessels[0][..., _RADIUS]

    _draw(
        anatomy.zone,
        anatomy.clearance,
        tissue.fields,
        tissue.step_um,
        glands,
        fat,
        vessels,
        periodic_texture(rng, 10, 40),
        rng.uniform(3.5, 5.5),
        rng.uniform(1.7, 2.3),
    )
    return anatomy


def cut_to_outline(anatomy: Anatomy, tissue: Tissue, level: float) -> None:
    """Take away, in place, what lies where the outline is below ``level``."""
    grad_y, grad_x = np.gradient(tissue.outline, tissue.step_um)
    slope = np.maximum(np.hypot(grad_x, grad_y), 1e-5).astype(np.float32)
    _cut(anatomy.zone, anatomy.clearance, tissue.outline, slope, tissue.step_um, level)


def _lattice(
    rng: np.random.Generator, tissue: Tissue, spacing: float, probability: npt.NDArray[np.float64], jitter: float = 0.28
) -> tuple[Lattice, npt.NDArray[np.uint8]]:
    """Jitter one ellipse into every square of a grid, with radius 1 where its niche has such a structure, else 0."""
    rows, columns = int(tissue.height_um / spacing) + 2, int(tissue.width_um / spacing) + 2
    lattice = np.zeros((rows, columns, 7))
    offset = 0.5 + rng.uniform(-jitter, jitter, (rows, columns, 2))
    lattice[..., _X] = (np.arange(columns)[None, :] + offset[..., 0]) * spacing
    lattice[..., _Y] = (np.arange(rows)[:, None] + offset[..., 1]) * spacing
    niche_map = tissue.niche()
    row = np.clip((lattice[..., _Y] / tissue.step_um).astype(int), 0, niche_map.shape[0] - 1)
    column = np.clip((lattice[..., _X] / tissue.step_um).astype(int), 0, niche_map.shape[1] - 1)
    niche = niche_map[row, column]
    lattice[..., _RADIUS] = rng.random((rows, columns)) < probability[niche]
    lattice[..., _STRETCH] = 1.0
    lattice[..., _ANGLE] = rng.uniform(0, np.pi, (rows, columns))
    return (lattice, spacing), niche


@njit(nogil=True, cache=True)
def _nearest_ellipse(lattice: Lattice, x: float, y: float) -> tuple[int, int, float]:
    """Return row, column and relative radius of the ellipse whose outline is nearest from inside."""
    properties, spacing = lattice
    rows, columns = properties.shape[:2]
    row, column = int(y / spacing), int(x / spacing)
    best_row, best_column, best = -1, -1, 1e9
    for i in range(max(row - 1, 0), min(row + 2, rows)):
        for j in range(max(column - 1, 0), min(column + 2, columns)):
            p = properties[i, j]
            if p[_RADIUS] <= 0:
                continue
            dx, dy = x - p[_X], y - p[_Y]
            c, s, stretch = np.cos(p[_ANGLE]), np.sin(p[_ANGLE]), np.sqrt(p[_STRETCH])
            along, across = (dx * c + dy * s) / stretch, (dy * c - dx * s) * stretch
            relative = np.sqrt(along * along + across * across) / p[_RADIUS]
            if relative < best:
                best_row, best_column, best = i, j, relative
    return best_row, best_column, best


@njit(nogil=True, cache=True)
def _depth_in_vacuole(lattice: Lattice, x: float, y: float) -> float:
    """Return how deep a place is inside a fat vacuole, negative outside; vacuoles flatten where they meet."""
    properties, spacing = lattice
    rows, columns = properties.shape[:2]
    row, column = int(y / spacing), int(x / spacing)
    own_row, own_column, own = -1, -1, 1e18
    for i in range(max(row - 1, 0), min(row + 2, rows)):
        for j in range(max(column - 1, 0), min(column + 2, columns)):
            p = properties[i, j]
            d = (x - p[_X]) ** 2 + (y - p[_Y]) ** 2
            if p[_RADIUS] > 0 and d < own:
                own_row, own_column, own = i, j, d
    if own_row < 0:
        return -1e9
    centre = properties[own_row, own_column]
    # A smooth minimum of the distances to radius and walls rounds the corners.
    softness = 5.0
    total = np.exp(-(centre[_RADIUS] - np.sqrt(own)) / softness)
    for i in range(max(own_row - 2, 0), min(own_row + 3, rows)):
        for j in range(max(own_column - 2, 0), min(own_column + 3, columns)):
            p = properties[i, j]
            if p[_RADIUS] <= 0 or (i == own_row and j == own_column):
                continue
            dx, dy = p[_X] - centre[_X], p[_Y] - centre[_Y]
            distance = np.sqrt(dx * dx + dy * dy)
            to_wall = 0.5 * distance - ((x - centre[_X]) * dx + (y - centre[_Y]) * dy) / distance
            total += np.exp(-(to_wall - centre[_RIM]) / softness)
    return float(-softness * np.log(total))


@njit(nogil=True, cache=True)
def _draw(
    zone: npt.NDArray[np.uint8],
    clearance: npt.NDArray[np.int8],
    fields: FloatImage,
    fields_step: float,
    glands: Lattice,
    fat: Lattice,
    vessels: Lattice,
    texture: FloatImage,
    nest_um: float,
    tear_level: float,
) -> None:
    """Fill both rasters: nests, then glands, fat and vessels over them, then tears."""
    nest_level = fields[:, :, NEST_LEVEL]
    for row in range(zone.shape[0]):
        for column in range(zone.shape[1]):
            true_x, true_y = (column + 0.5) * STEP_UM, (row + 0.5) * STEP_UM
            # No gland is an ellipse: bend the place before asking.
            x = true_x + 6.0 * sample_texture(texture, true_x / 5, true_y / 5)
            y = true_y + 6.0 * sample_texture(texture, true_x / 5 + 500, true_y / 5 + 300)
            clear = _MAX_CLEARANCE_UM
            level = sample_raster(nest_level, true_x / fields_step, true_y / fields_step)
            kind = NEST if sample_texture(texture, x / nest_um, y / nest_um) > level else STROMA

            i, j, relative = _nearest_ellipse(glands, x, y)
            if i >= 0:
                p = glands[0][i, j]
                clear = min(clear, (relative - p[_LUMEN]) * p[_RADIUS])
                if relative < p[_LUMEN]:
                    kind = VOID
                elif relative < p[_LUMEN] + (1 - p[_LUMEN]) * p[_RIM]:
                    kind = APICAL
                elif relative < 1:
                    kind = GLAND
            # Fat is round, so it is bent less.
            depth = _depth_in_vacuole(fat, 0.7 * true_x + 0.3 * x, 0.7 * true_y + 0.3 * y)
            clear = min(clear, -depth)
            if depth > 0:
                kind = VOID
            elif depth > -6 and kind == NEST:
                kind = STROMA
            i, j, relative = _nearest_ellipse(vessels, x, y)
            if i >= 0 and kind in (STROMA, NEST):
                p = vessels[0][i, j]
                beyond = (relative - 1) * p[_RADIUS]
                clear = min(clear, beyond)
                if beyond < 0:
                    kind = BLOOD if p[_LUMEN] > 0 else VOID
                elif beyond < p[_RIM]:
                    kind = WALL
            # Tears follow the zero line of a coarse noise where another one is exceptionally high.
            torn = sample_texture(texture, true_x / 14 + 700, true_y / 14 + 100) - tear_level
            if torn > 0:
                off_line = 130 * abs(sample_texture(texture, x / 22 + 200, y / 22 + 800))
                clear = min(clear, off_line - min(14 * torn, 9.0))
                if clear < 0 and kind != BLOOD:
                    kind = VOID
            zone[row, column] = kind
            clearance[row, column] = int(
                np.rint(min(max(clear, -_MAX_CLEARANCE_UM), _MAX_CLEARANCE_UM) / CLEARANCE_UNIT_UM)
            )


@njit(nogil=True, cache=True)
def _cut(
    zone: npt.NDArray[np.uint8],
    clearance: npt.NDArray[np.int8],
    outline: FloatImage,
    slope: FloatImage,
    step: float,
    level: float,
) -> None:
    """Empty what lies outside, and let the clearance end at the edge."""
    for row in range(zone.shape[0]):
        for column in range(zone.shape[1]):
            x, y = (column + 0.5) * STEP_UM / step, (row + 0.5) * STEP_UM / step
            above = sample_raster(outline, x, y) - level
            # The section ends a little beyond the outermost nuclei.
            inside = above / sample_raster(slope, x, y) + 5.0
            units = int(np.rint(min(max(inside, -_MAX_CLEARANCE_UM), _MAX_CLEARANCE_UM) / CLEARANCE_UNIT_UM))
            if units < clearance[row, column]:
                clearance[row, column] = units
            if units < 0:
                zone[row, column] = VOID
