"""What lies between the cells: fibres, ground substance, gland and vessel walls, blood."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stdistill._support.jit import njit
from stdistill.datasets._simulation.biology.niches import APICAL, BLOOD, NEST, WALL
from stdistill.datasets._simulation.painting.stain import BASOPHILIA, E, H, R
from stdistill.datasets._simulation.tissue.anatomy import CLEARANCE_UNIT_UM
from stdistill.datasets._simulation.tissue.anatomy import STEP_UM as ANATOMY_STEP_UM
from stdistill.datasets._simulation.tissue.noise import FloatImage, sample_raster, sample_texture, smoothstep
from stdistill.datasets._simulation.tissue.tissue import ACROSS, ALONG, COARSENESS, EOSIN, FIBRE, GRAIN, HAZE, LOOSE


@njit(nogil=True, cache=True, fastmath=True)
def paint_ground(
    stains: FloatImage,
    origin: tuple[int, int],
    to_um: npt.NDArray[np.float64],
    fields: FloatImage,
    fields_step: float,
    zone: npt.NDArray[np.uint8],
    clearance: npt.NDArray[np.int8],
    fibre: FloatImage,
    grain: FloatImage,
) -> bool:
    """Lay down everything but the cells; return whether there is any tissue."""
    touched = False
    here = np.empty(fields.shape[2], np.float32)
    width_um, height_um = zone.shape[1] * ANATOMY_STEP_UM, zone.shape[0] * ANATOMY_STEP_UM
    for row in range(stains.shape[0]):
        for column in range(stains.shape[1]):
            px, py = origin[0] + column + 0.5, origin[1] + row + 0.5
            x = to_um[0, 0] * px + to_um[0, 1] * py + to_um[0, 2]
            y = to_um[1, 0] * px + to_um[1, 1] * py + to_um[1, 2]
            if x < 0 or y < 0 or x >= width_um or y >= height_um:
                continue
            ax, ay = x / ANATOMY_STEP_UM, y / ANATOMY_STEP_UM
            cover = smoothstep(sample_raster(clearance, ax, ay) * CLEARANCE_UNIT_UM / 0.8 + 0.4)
            kind = zone[int(ay), int(ax)]
            if cover == 0 and kind != BLOOD:
                continue
            touched = True
            _interpolate(here, fields, x / fields_step, y / fields_step)
            along, across = here[ALONG], here[ACROSS]
            thin = sample_texture(fibre, along / 3.1 + 311, across / 0.26 + 97)
            medium = sample_texture(fibre, along / 6.0, across / 0.5)
            # Bundles of muscle and scar are mixed in; stretching one texture would smear where niches meet.
            bundle = sample_texture(fibre, along / 15.0 + 733, across / 1.35 + 57)
            coarse = min(max(0.6 * here[COARSENESS] - 0.3, 0.0), 1.0)
            thick = (1 - coarse) * medium + coarse * bundle
            granule = sample_texture(grain, x / 0.40, y / 0.40)
            cloud = sample_texture(grain, x / 6.0 + 517, y / 6.0 + 233)

            eosin = here[EOSIN] * (1 + 0.10 * cloud + here[GRAIN] * granule)
            strands = eosin * (1 + here[FIBRE] * (0.34 * thick + 0.22 * thin))
            gap = smoothstep(0.9 * (-0.15 - 0.85 * thick - 0.45 * cloud - 0.25 * thin))
            strands *= 1 - min(1.0, 1.5 * here[LOOSE]) * gap
            haze = (here[HAZE] + BASOPHILIA) * (1 + 0.4 * cloud + 2 * here[GRAIN] * granule) * (1 - here[LOOSE] * gap)

            epithelial = _share_of(zone, NEST, APICAL, ax, ay)
            body = 0.29 * (1 + 0.10 * cloud + 0.11 * granule)
            amount_e = strands + epithelial * (body - strands)
            amount_h = haze + epithelial * ((0.09 + BASOPHILIA) * (1 + 0.2 * granule) - haze)
            wall = _share_of(zone, WALL, WALL, ax, ay)
            amount_e += wall * (0.28 - 0.45 * amount_e)
            red = 0.0
            if kind == BLOOD:
                red = _red_cells(x, y) * smoothstep(-sample_raster(clearance, ax, ay) * CLEARANCE_UNIT_UM / 0.8)
            stains[row, column, H] = max(amount_h, 0.0) * cover
            stains[row, column, E] = max(amount_e, 0.0) * cover
            stains[row, column, R] = red
    return touched


@njit(nogil=True, cache=True)
def _share_of(zone: npt.NDArray[np.uint8], first: int, last: int, x: float, y: float) -> float:
    """Return how much of a place, between raster pixels, is in the zones from ``first`` to ``last``."""
    gx = min(max(x - 0.5, 0.0), zone.shape[1] - 1.001)
    gy = min(max(y - 0.5, 0.0), zone.shape[0] - 1.001)
    share = 0.0
    for i in range(int(gy), int(gy) + 2):
        for j in range(int(gx), int(gx) + 2):
            if first <= zone[i, j] <= last:
                share += (1 - abs(gy - i)) * (1 - abs(gx - j))
    return share


@njit(nogil=True, cache=True, inline="always")
def _interpolate(values: npt.NDArray[np.float32], fields: FloatImage, x: float, y: float) -> None:
    """Fill ``values`` with all channels of a place between raster pixels."""
    gx = min(max(x - 0.5, 0.0), fields.shape[1] - 1.001)
    gy = min(max(y - 0.5, 0.0), fields.shape[0] - 1.001)
    j, i = int(gx), int(gy)
    tx, ty = np.float32(gx - j), np.float32(gy - i)
    one = np.float32(1)
    for c in range(fields.shape[2]):
        top = fields[i, j, c] * (one - tx) + fields[i, j + 1, c] * tx
        bottom = fields[i + 1, j, c] * (one - tx) + fields[i + 1, j + 1, c] * tx
        values[c] = top * (one - ty) + bottom * ty


@njit(nogil=True, cache=True)
def _red_cells(x: float, y: float) -> float:
    """Return the density of a loose packing of discs, paler in their middle."""
    pitch, radius = 5.8, 3.0
    row, column = int(y // pitch), int(x // pitch)
    density = 0.0
    for i in range(row - 1, row + 2):
        for j in range(column - 1, column + 2):
            # An integer hash gives every disc its own place, the same in every tile.
            h = (i * 73856093) ^ (j * 19349663)
            h = (h ^ (h >> 13)) * 1274126177 & 0x7FFFFFFF
            if h % 100 < 22:
                continue
            cx = (j + 0.25 + 0.5 * ((h >> 8) % 256) / 256) * pitch
            cy = (i + 0.25 + 0.5 * ((h >> 16) % 256) / 256) * pitch
            r = np.sqrt((x - cx) ** 2 + (y - cy) ** 2)
            density = max(density, smoothstep((radius - r) / 0.7) * (0.42 + 0.30 * min(r / radius, 1.0)))
    return density
