"""Scanners: the light behind the slide, and what becomes of it until it is a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Scanner:
    """One scanner with its settings."""

    white: npt.NDArray[np.float32]
    """RGB of empty slide, 0 to 255."""
    gamma: npt.NDArray[np.float32]
    """Exponent of the share of light that passes, by RGB channel: contrast, which leaves white as it is."""
    blur_um: float
    """Standard deviation of a Gaussian, in addition to the objective's blur."""
    jpeg_quality: int


def usual_scanner(rng: np.random.Generator) -> Scanner:
    """Return the scanner of all slides for which no other is asked for; only its white is drawn."""
    white = np.array([243.0, 241.0, 244.0]) + rng.normal(0, 1.8, 3)
    return Scanner(np.clip(white, 230, 252).astype(np.float32), np.ones(3, np.float32), 0.0, 90)


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """Draw another scanner: brightness and tint of the light, contrast, sharpness, and quality of the JPEG."""
    # At most 246, so that noise does not clip the glass.
    white = rng.uniform(222, 243) + rng.uniform(-3, 3, 3)
    gamma = np.exp(rng.uniform(-0.25, 0.25) + rng.uniform(-0.07, 0.07, 3))
    return Scanner(
        white=white.astype(np.float32),
        gamma=gamma.astype(np.float32),
        blur_um=float(rng.uniform(0, 0.45)),
        jpeg_quality=int(rng.integers(70, 96)),
    )
