from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])


@dataclass(frozen=True)
class Drawing:
    """A drawn H&E and the nuclei in it."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    centres: npt.NDArray[np.float64]
    """x, y from the upper left corner."""


@pytest.fixture(scope="session")
def draw() -> Callable[..., Drawing]:
    """Draw dark ellipses with soft edges on pink tissue."""

    def make(
        shape: tuple[int, int],
        centres: Any,
        *,
        diameter: float = 14.0,
        elongation: float = 1.3,
        darkness: float | Sequence[float] = 1.2,
        eosin: float = 0.25,
        chromatin: float = 0.15,
        seed: int = 0,
    ) -> Drawing:
        rng = np.random.default_rng(seed)
        centres = np.asarray(centres, dtype=float).reshape(-1, 2)
        amounts = np.broadcast_to(np.asarray(darkness, dtype=float), len(centres))
        haematoxylin = np.zeros(shape)
        labels = np.zeros(shape, dtype=np.int32)
        grid = np.mgrid[: shape[0], : shape[1]] + 0.5
        long, short = diameter / 2 * elongation**0.5, diameter / 2 * elongation**-0.5
        for number, ((centre_x, centre_y), amount) in enumerate(zip(centres, amounts, strict=True), 1):
            rows, columns = (
                slice(max(int(at - 2 * diameter), 0), int(at + 2 * diameter)) for at in (centre_y, centre_x)
            )
            y, x = grid[:, rows, columns]
            angle = rng.uniform(0, np.pi)
            along = (x - centre_x) * np.cos(angle) + (y - centre_y) * np.sin(angle)
            across = (y - centre_y) * np.cos(angle) - (x - centre_x) * np.sin(angle)
            outside = (np.hypot(along / long, across / short) - 1) * short  # px beyond the edge, about
            near = haematoxylin[rows, columns]
            near[:] = np.maximum(near, amount / (1 + np.exp(np.minimum(56 * outside / diameter, 50))))
            labels[rows, columns][outside < 0] = number
        grain = ndimage.gaussian_filter(rng.normal(size=shape), diameter / 12)
        haematoxylin *= np.exp(chromatin * grain / grain.std())  # what is wholly plain is ink, not a nucleus
        density = haematoxylin[..., None] * HAEMATOXYLIN + eosin * EOSIN + rng.normal(0, 0.01, (*shape, 3))
        pixels = np.clip(np.rint(245 * np.exp(-density)), 0, 255).astype(np.uint8)
        return Drawing(pixels, labels, centres)

    return make


@pytest.fixture(scope="session")
def field(draw: Callable[..., Drawing]) -> Drawing:
    """A field of 256 × 320 px with about 80 nuclei of 14 px that lie apart."""
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(np.arange(20, 310, 31), np.arange(20, 245, 31)), axis=-1).reshape(-1, 2)
    return draw((256, 320), grid + rng.uniform(-5, 5, grid.shape), seed=5)
