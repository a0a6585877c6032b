"""Where the H&E lies relative to the slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PIXEL_SIZE_UM = 0.2125
"""µm per pixel of the morphology image of every Xenium instrument."""


@dataclass(frozen=True)
class Alignment:
    """The frame of the H&E: its shape, and the way from its pixels to those of the morphology image."""

    shape: tuple[int, int]
    """Rows and columns."""
    matrix: npt.NDArray[np.float64]
    """3×3, from H&E pixel (x, y) to morphology pixel (x, y)."""

    @property
    def to_um(self) -> npt.NDArray[np.float64]:
        """2×3 matrix from H&E pixels to µm of the slide."""
        return np.asarray(self.matrix[:2] * PIXEL_SIZE_UM, np.float64)

    def from_um(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the H&E pixels (x, y) of places on the slide in µm."""
        matrix = self.to_um
        return np.asarray(np.linalg.solve(matrix[:, :2], (points - matrix[:, 2]).T).T, np.float64)


def draw_alignment(rng: np.random.Generator, width_um: float, height_um: float, he_mpp: float) -> Alignment:
    """Draw how the H&E was scanned: turned by about a quarter, to either side, and large enough for the slide."""
    quarter = np.pi / 2 if rng.random() < 0.5 else -np.pi / 2
    turn = quarter + np.deg2rad(rng.uniform(-3, 3))
    scale = he_mpp / PIXEL_SIZE_UM
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = np.array([[0, 0], [width_um, 0], [0, height_um], [width_um, height_um]]) / PIXEL_SIZE_UM
    in_he = np.linalg.solve(linear, corners.T).T
    low, high = in_he.min(axis=0), in_he.max(axis=0)
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, linear @ low
    columns, rows = np.ceil(high - low).astype(int)
    return Alignment((int(rows), int(columns)), matrix)
