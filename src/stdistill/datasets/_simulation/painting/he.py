"""Haematoxylin and eosin: a painter of the tiles of a slide."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from stdistill.datasets._simulation.painting.ground import paint_ground
from stdistill.datasets._simulation.painting.scanner import Scanner
from stdistill.datasets._simulation.painting.stain import HALO, Stain, develop
from stdistill.datasets._simulation.painting.stained_cells import (
    DARKNESS,
    NUCLEOLUS_X,
    NUCLEOLUS_Y,
    SEEN_NUCLEOLUS,
    SOFTNESS,
    paint_cells,
)
from stdistill.datasets._simulation.painting.unevenness import Unevenness, make_uneven
from stdistill.datasets._simulation.tissue.cells import spatial_bins
from stdistill.datasets._simulation.tissue.noise import TEXTURE_SIZE, periodic_texture
from stdistill.datasets._simulation.tissue.section import Section

_BLUR_REACH = 3.0
"""Standard deviations at which a blur ends."""


class HePainter:
    """Paints any tile of the H&E of a section.

    Parameters
    ----------
    rng
        Draws what the section leaves open: textures and the variation of stain between cells.
    section
        The section to paint.
    stain
        The colours.
    unevenness
        How thickness and uptake of the dyes drift.
    scanner
        The light, and what is made of it.
    to_um
        2×3 affine matrix from pixels of the H&E to µm of the slide.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        section: Section,
        stain: Stain,
        unevenness: Unevenness,
        scanner: Scanner,
        to_um: npt.NDArray[np.float64],
    ) -> None:
        self._section, self._unevenness, self._to_um, self._white = section, unevenness, to_um, scanner.white
        # A power of the light that passes is a multiple of the density that stops it.
        self._density = stain.optical_density * scanner.gamma
        self._blur_px = scanner.blur_um / np.sqrt(abs(np.linalg.det(to_um[:, :2])))
        self._textures = (
            periodic_texture(rng, 4, 14),
            periodic_texture(rng, 4, 12),
            rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE)).astype(np.float32),
        )
        cells = section.cells
        n = len(cells)
        vary = np.empty((n, 5), np.float32)
        vary[:, DARKNESS] = rng.lognormal(0, 0.13, n)
        # A nucleus out of focus has a softer edge.
        vary[:, SOFTNESS] = 0.35 + rng.gamma(2.0, 0.12, n)
        vary[:, [NUCLEOLUS_X, NUCLEOLUS_Y]] = rng.uniform(-0.45, 0.45, (n, 2))
        vary[:, SEEN_NUCLEOLUS] = rng.random(n) < 0.7
        self._cells = (
            cells.x,
            cells.y,
            cells.outline,
            section.cell_types.looks[cells.cell_type],
            vary,
            cells.first_nucleus,
            cells.nuclei.x,
            cells.nuclei.y,
            cells.nuclei.outline,
            *spatial_bins(cells.x, cells.y),
        )

    def paint(self, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Return the RGB pixels of a tile whose top left pixel is ``x``, ``y``."""
        reach = int(np.ceil(_BLUR_REACH * self._blur_px))
        margin = HALO + reach
        stains = np.zeros((height + 2 * margin, width + 2 * margin, 3), np.float32)
        origin = (x - margin, y - margin)
        fibre, grain, sensor = self._textures
        tissue, anatomy = self._section.tissue, self._section.anatomy
        touched = paint_ground(
            stains, origin, self._to_um, tissue.fields, tissue.step_um, anatomy.zone, anatomy.clearance, fibre, grain
        )
        if touched:
            paint_cells(stains, origin, self._to_um, grain, *self._cells)
            uneven = self._unevenness
            make_uneven(stains, origin, self._to_um, uneven.haematoxylin, uneven.eosin, uneven.step_um)
        if reach:
            blurred = gaussian_filter(stains, self._blur_px, radius=reach, axes=(0, 1))
            stains = np.ascontiguousarray(blurred[reach:-reach, reach:-reach])
        pixels = np.empty((height, width, 3), np.uint8)
        develop(pixels, stains, (x - HALO, y - HALO), self._density, self._white, sensor)
        return pixels
