"""How a section is uneven, whatever niche lies where: its thickness and its uptake of the dyes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stdistill._support.jit import njit
from stdistill.datasets._simulation.painting.stain import E, H, R
from stdistill.datasets._simulation.tissue.noise import FloatImage, random_field, sample_raster
from stdistill.datasets._simulation.tissue.section import Section

STEP_UM = 20.0
"""Between pixels of the rasters; the shortest wavelength is ten times as long."""
MAX_SIDE = 2000
"""Pixels along the longer side of a raster, so that memory stays bounded on large slides."""
DRIFT_UM = 2500.0
"""Wavelength of what drifts across a section."""
COLLAGEN_UM = 300.0
"""Wavelength at which eosin is taken up more or less, within a niche and across its borders."""
THICKNESS = 0.18
HAEMATOXYLIN = 0.08
EOSIN = 0.16
COLLAGEN = 0.2
"""Standard deviations of the logarithms of what multiplies the stains."""


@dataclass(frozen=True)
class Unevenness:
    """Rasters over a slide, from its origin, with ``step_um`` between pixels."""

    haematoxylin: FloatImage
    """What multiplies haematoxylin."""
    eosin: FloatImage
    """What multiplies eosin, and the colour of red blood cells."""
    step_um: float


def draw_unevenness(rng: np.random.Generator, section: Section) -> Unevenness:
    """Draw how thickness, which changes both dyes alike, and the uptake of either drift across a section."""
    tissue = section.tissue
    longer = max(tissue.width_um, tissue.height_um)
    step = max(STEP_UM, longer / MAX_SIDE)
    shape = (int(np.ceil(tissue.height_um / step)) + 1, int(np.ceil(tissue.width_um / step)) + 1)

    def field(wavelength_um: float) -> FloatImage:
        return random_field(rng, shape, wavelength_um / step)

    thickness = THICKNESS * field(DRIFT_UM)
    return Unevenness(
        haematoxylin=np.exp(thickness + HAEMATOXYLIN * field(DRIFT_UM)),
        eosin=np.exp(thickness + EOSIN * field(DRIFT_UM) + COLLAGEN * field(COLLAGEN_UM)),
        step_um=float(step),
    )


@njit(nogil=True, cache=True, fastmath=True)
def make_uneven(
    stains: FloatImage,
    origin: tuple[int, int],
    to_um: npt.NDArray[np.float64],
    haematoxylin: FloatImage,
    eosin: FloatImage,
    step_um: float,
) -> None:
    """Multiply the stains of a tile, in place, by what the slide takes up there."""
    for row in range(stains.shape[0]):
        for column in range(stains.shape[1]):
            px, py = origin[0] + column + 0.5, origin[1] + row + 0.5
            x = (to_um[0, 0] * px + to_um[0, 1] * py + to_um[0, 2]) / step_um
            y = (to_um[1, 0] * px + to_um[1, 1] * py + to_um[1, 2]) / step_um
            pink = sample_raster(eosin, x, y)
            stains[row, column, H] *= sample_raster(haematoxylin, x, y)
            stains[row, column, E] *= pink
            stains[row, column, R] *= pink
