"""The stain of a slide: what its haematoxylin and eosin absorb of red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stdistill._slide.glass import Color
from stdistill._slide.tissue import optical_density
from stdistill._support.arrays import Float64s, Pixels

RUIFROK = [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]
"""Haematoxylin and eosin of Ruifrok and Johnston 2001."""
MIN_DENSITY = 0.3
"""What absorbs less of every colour has no certain colour (natural logarithm; 0.15 of Macenko et al. is of base 10)."""
MIN_EACH = 0.02
"""A colour of which less is absorbed is that of the glass, or brighter."""
ANGLES = (1, 99)
"""Percentiles of the angles, between which all but outliers lie."""
MIN_PX = 1000
DENSEST = 99
"""Percentile of what pixels absorb above which they are nuclei, if there are any."""
SWAPPED = 1.25
"""Nuclei that absorb so many times as much blue as red; of some sixty real H&E the most was .94 times (our choice)."""


def stain_vectors(fields: Sequence[Pixels], glass: Color) -> Float64s | None:
    """Estimate the optical densities (2, 3) of haematoxylin and eosin, as unit vectors; `None` of too few pixels.

    Macenko et al. 2009: the two directions at the ends of what pixels absorb, in the plane that holds most of it.

    Parameters
    ----------
    fields
        Pieces of tissue (height, width, 3).
    glass
        Colour of the glass.
    """
    density = _stained(fields, glass)
    if len(density) < MIN_PX:
        return None
    plane = np.linalg.eigh(density.T @ density)[1][:, :0:-1]
    plane *= np.sign(plane.sum(axis=0, keepdims=True))
    angles = np.arctan2(*(density @ plane).T[::-1])
    ends = np.percentile(angles, ANGLES)
    vectors = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane.T
    by_red: Float64s = vectors[np.argsort(-vectors[:, 0])]  # haematoxylin absorbs more of it
    return by_red


def looks_swapped(fields: Sequence[Pixels], glass: Color) -> bool:
    """Whether red and blue seem to have changed places, as OpenCV reads files: the densest pixels are then no blue.

    Vectors do not tell it: with both colours exchanged, eosin looks much like haematoxylin, and the other way round.
    """
    density = _stained(fields, glass)
    if len(density) < MIN_PX:
        return False
    total = density.sum(axis=1)
    red, _, blue = density[total >= np.percentile(total, DENSEST)].mean(axis=0)
    return bool(blue > SWAPPED * red)


def _stained(fields: Sequence[Pixels], glass: Color) -> Float64s:
    """Return what the pixels absorb (n, 3) whose colour is certain."""
    density = optical_density(np.concatenate([field.reshape(-1, 3) for field in fields]), glass).astype(np.float64)
    certain: Float64s = density[(density.max(axis=1) > MIN_DENSITY) & (density.min(axis=1) > MIN_EACH)]
    return certain


def stain_angle(one: Float64s, other: Float64s) -> float:
    """Return the larger of the angles (degrees) between the haematoxylin and the eosin (2, 3) of two stains."""
    cosines = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())
