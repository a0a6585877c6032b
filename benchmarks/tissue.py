"""Places of cells, of what is on a bare machine."""

from __future__ import annotations

import numpy as np

CELLS_PER_MM2 = 4500


def tissue(n_cells: int, seed: int = 0) -> np.ndarray:
    """Cell centres in µm: waves of density, and lumina without cells."""
    rng = np.random.default_rng(seed)
    side = 1000 * np.sqrt(n_cells / CELLS_PER_MM2)
    places = rng.uniform(0, side, (2 * n_cells, 2))
    x, y = places.T
    density = 1 / (1 + np.exp(-1.5 * (np.sin(x / 150) + np.cos(y / 110) + np.sin((x + y) / 400))))
    lumen = np.hypot((x % 700) - 350, (y % 700) - 350) < 80
    centers = places[(rng.random(len(places)) < 0.2 + density) & ~lumen]
    return centers[rng.permutation(len(centers))[:n_cells]]
