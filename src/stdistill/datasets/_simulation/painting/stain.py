"""Dyes, and the light that passes through them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stdistill._support.jit import njit
from stdistill.datasets._simulation.tissue.noise import TEXTURE_SIZE, FloatImage

H, E, R = range(3)
"""Haematoxylin, eosin, red blood cells: the last axis of an image of stains."""
BASOPHILIA = 0.06
"""Haematoxylin that everything takes up, beside what is said of it."""
HALO = 2
"""An image of stains is this much larger than what is developed from it, on every side."""


@dataclass(frozen=True)
class Stain:
    """Colours of one staining run."""

    optical_density: npt.NDArray[np.float32]
    """Stain by RGB channel: haematoxylin, eosin, red blood cells."""


def draw_stain(rng: np.random.Generator) -> Stain:
    """Draw the colours of one laboratory: hue, strength and balance of the stains."""
    base = np.array([[0.68, 0.66, 0.32], [0.16, 0.90, 0.40], [0.08, 0.86, 0.74]])
    spread = np.array([[0.05, 0.03, 0.05], [0.04, 0.03, 0.07], [0.03, 0.03, 0.08]])
    vectors = base + spread * rng.standard_normal((3, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strength = np.array([1.25, 1.0, 1.0]) * rng.lognormal(0, [0.14, 0.18, 0.1])
    return Stain((vectors * strength[:, None]).astype(np.float32))


@njit(nogil=True, cache=True, fastmath=True)
def develop(
    pixels: npt.NDArray[np.uint8],
    stains: FloatImage,
    origin: tuple[int, int],
    optical_density: npt.NDArray[np.float32],
    white: npt.NDArray[np.float32],
    sensor: FloatImage,
) -> None:
    """Blur by the objective, absorb light after Beer and Lambert, add the noise of the sensor."""
    side, corner = np.float32(0.11), np.float32(0.05)
    centre = np.float32(1) - 4 * side - 4 * corner
    amount = np.empty(3, np.float32)
    mask = TEXTURE_SIZE - 1
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            i, j = row + HALO, column + HALO
            for s in range(3):
                amount[s] = (
                    centre * stains[i, j, s]
                    + side * (stains[i - 1, j, s] + stains[i + 1, j, s] + stains[i, j - 1, s] + stains[i, j + 1, s])
                    + corner
                    * (
                        stains[i - 1, j - 1, s]
                        + stains[i - 1, j + 1, s]
                        + stains[i + 1, j - 1, s]
                        + stains[i + 1, j + 1, s]
                    )
                )
            y, x = origin[1] + row, origin[0] + column
            for c in range(3):
                density = (
                    amount[H] * optical_density[H, c]
                    + amount[E] * optical_density[E, c]
                    + amount[R] * optical_density[R, c]
                )
                # Shifting by the row block keeps the repeats of the noise from lining up.
                noise = sensor[(y + 331 * c) & mask, (x + 517 * (y >> 10) + 173 * c) & mask]
                light = white[c] * np.exp(-density) + 1.3 * noise
                pixels[row, column, c] = np.uint8(min(max(light + 0.5, 0.0), 255.0))
