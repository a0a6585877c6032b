"""The DAPI image: nuclei glow on a dim ground."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stdistill._support.jit import njit
from stdistill.datasets._simulation.tissue.anatomy import CLEARANCE_UNIT_UM
from stdistill.datasets._simulation.tissue.anatomy import STEP_UM as ANATOMY_STEP_UM
from stdistill.datasets._simulation.tissue.cells import BIN_UM, MAX_REACH_UM, outline_radius, spatial_bins
from stdistill.datasets._simulation.tissue.noise import (
    TEXTURE_SIZE,
    FloatImage,
    periodic_texture,
    sample_raster,
    sample_texture,
)
from stdistill.datasets._simulation.tissue.section import Section


class DapiPainter:
    """Paints any tile of the DAPI image of a section, in the frame of the slide."""

    def __init__(self, rng: np.random.Generator, section: Section, pixel_size: float) -> None:
        self._section, self._pixel_size = section, pixel_size
        self._chromatin = periodic_texture(rng, 4, 12)
        self._sensor = rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE)).astype(np.float32)
        cells, nuclei = section.cells, section.cells.nuclei
        condensed = section.cell_types.look("haematoxylin")[cells.cell_type[nuclei.cell]]
        glow = (1400 * condensed * rng.lognormal(0, 0.25, len(nuclei))).astype(np.float32)
        self._nuclei = (nuclei.x, nuclei.y, nuclei.outline, glow, *spatial_bins(nuclei.x, nuclei.y))

    def paint(self, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint16]:
        """Return the pixels of a tile whose top left pixel is ``x``, ``y``."""
        light = np.zeros((height, width), np.float32)
        _glow(light, (x, y), self._pixel_size, self._chromatin, *self._nuclei)
        pixels = np.empty((height, width), np.uint16)
        _expose(pixels, light, (x, y), self._pixel_size, self._section.anatomy.clearance, self._sensor)
        return pixels


@njit(nogil=True, cache=True, fastmath=True)
def _glow(
    light: FloatImage,
    origin: tuple[int, int],
    pixel_size: float,
    chromatin: FloatImage,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    outline: npt.NDArray[np.float32],
    glow: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    columns: int,
) -> None:
    """Add the light of all nuclei that reach into a tile."""
    rows = (len(starts) - 1) // columns
    low_x, low_y = origin[0] * pixel_size - MAX_REACH_UM, origin[1] * pixel_size - MAX_REACH_UM
    high_x = (origin[0] + light.shape[1]) * pixel_size + MAX_REACH_UM
    high_y = (origin[1] + light.shape[0]) * pixel_size + MAX_REACH_UM
    first = min(max(int(low_x // BIN_UM), 0), columns)
    last = min(max(int(high_x // BIN_UM) + 1, first), columns)
    for i in range(max(int(low_y // BIN_UM), 0), min(int(high_y // BIN_UM) + 1, rows)):
        for k in range(starts[i * columns + first], starts[i * columns + last]):
            n = order[k]
            reach = outline[n].max() + 0.6
            first_row = max(int((y[n] - reach) / pixel_size) - origin[1], 0)
            last_row = min(int((y[n] + reach) / pixel_size) + 1 - origin[1], light.shape[0])
            first_column = max(int((x[n] - reach) / pixel_size) - origin[0], 0)
            last_column = min(int((x[n] + reach) / pixel_size) + 1 - origin[0], light.shape[1])
            for row in range(first_row, last_row):
                for column in range(first_column, last_column):
                    px, py = (origin[0] + column + 0.5) * pixel_size, (origin[1] + row + 0.5) * pixel_size
                    dx, dy = px - x[n], py - y[n]
                    r2 = dx * dx + dy * dy
                    if r2 > reach * reach:
                        continue
                    inside = outline_radius(outline[n], dx, dy) - np.sqrt(r2)
                    weight = min(max(inside / 1.2 + 0.5, 0.0), 1.0)
                    texture = 1 + 0.22 * sample_texture(chromatin, px / 0.3, py / 0.3)
                    light[row, column] += glow[n] * weight * max(texture, 0.2)


@njit(nogil=True, cache=True, fastmath=True)
def _expose(
    pixels: npt.NDArray[np.uint16],
    light: FloatImage,
    origin: tuple[int, int],
    pixel_size: float,
    clearance: npt.NDArray[np.int8],
    sensor: FloatImage,
) -> None:
    """Add the glow of the tissue, the dark level and the noise of the camera."""
    mask = TEXTURE_SIZE - 1
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            x, y = origin[0] + column, origin[1] + row
            clear = sample_raster(
                clearance, (x + 0.5) * pixel_size / ANATOMY_STEP_UM, (y + 0.5) * pixel_size / ANATOMY_STEP_UM
            )
            autofluorescence = 50 * min(max(clear * CLEARANCE_UNIT_UM + 0.5, 0.0), 1.0)
            value = 30 + autofluorescence + light[row, column]
            # Shot noise grows with the light, the rest is read noise.
            value += (1.5 + 0.35 * np.sqrt(value)) * sensor[y & mask, (x + 517 * (y >> 10)) & mask]
            pixels[row, column] = np.uint16(max(value, 0.0))
