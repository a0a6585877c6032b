from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
GLASS = np.array([242.0, 240, 243])


@pytest.fixture(scope="session")
def paint() -> Callable[..., npt.NDArray[np.uint8]]:
    """Paint densities of haematoxylin and eosin (height, width) as light through glass, with some noise."""

    def paint(
        haematoxylin: npt.NDArray[np.floating], eosin: npt.NDArray[np.floating], *, noise: float = 1.5, seed: int = 0
    ) -> npt.NDArray[np.uint8]:
        density = haematoxylin[..., None] * HAEMATOXYLIN + eosin[..., None] * EOSIN
        light = GLASS * np.exp(-density) + np.random.default_rng(seed).normal(0, noise, density.shape)
        return np.clip(np.rint(light), 0, 255).astype(np.uint8)

    return paint


@pytest.fixture(scope="session")
def tissue() -> Callable[..., tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Densities of tissue within a mask: pale stroma, and dark dots for nuclei, about as they are at 8 µm per pixel."""

    def tissue(
        mask: npt.NDArray[np.bool_], *, seed: int = 0
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        rng = np.random.default_rng(seed)
        nuclei = rng.random(mask.shape) < 0.15
        return mask * (0.1 + 0.9 * nuclei), mask * rng.uniform(0.25, 0.55, mask.shape)

    return tissue
