"""Whether cells lie on nuclei of their H&E: an image that was turned lies under them, on tissue, all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stdistill._slide.pyramid import SlideLevel, level_for
from stdistill._support.arrays import Floats
from stdistill._support.warn import warn

LOOKED_AT_UM = 1.0
"""µm per pixel at which nuclei are seen."""
N_FIELDS, FIELD_UM = 16, 250.0
"""Number and side of the fields that are looked at, each around a cell."""
NUCLEUS_UM, AROUND_UM = 3.0, 12.0
"""Side of the square that is looked at in the middle of a cell, and how far away those are that it is compared with."""
DIRECTIONS = 8
MIN_SHARE_ON_NUCLEI = 0.55
"""By chance it is half, with a spread of .035 of the fewest cells that are looked at."""
MIN_CELLS = 200
"""Fewer do not tell."""
SAME_SPACING = 0.02
"""Places of which most are as far from the next, up to this share, are bins or spots on a grid, and no cells."""


def warn_of_chance(levels: Sequence[SlideLevel], px: Floats, mpp: float) -> None:
    """Warn when no more cells lie on nuclei than by chance; of a grid of spots or bins nothing is expected.

    The parameters are those of `share_on_nuclei`.
    """
    share = share_on_nuclei(levels, px, mpp)
    if share is not None and share < MIN_SHARE_ON_NUCLEI and not _is_grid(px):
        warn(
            f"Cells do not seem to lie on nuclei of the H&E: {share:.0%} of them are darker than the tissue around, "
            "half are by chance. Was the image turned, mirrored, cut or replaced since it was aligned, are x and y "
            "swapped, is the alignment some µm off, or is it blurred? Look at the cells over it with "
            "sd.pl.niches(image_key=...) first."
        )


def share_on_nuclei(levels: Sequence[SlideLevel], px: Floats, mpp: float) -> float | None:
    """Return the share of cells that are darker in red than half of the places around them; half is chance.

    Haematoxylin absorbs red and eosin hardly does, so that cells on their nuclei are mostly darker than around.

    Parameters
    ----------
    levels
        Of the image.
    px
        Where cells lie (n, 2), in pixels of the full resolution.
    mpp
        µm per pixel of it.

    Returns
    -------
    `None` where too few cells are looked at, or no level shows nuclei.
    """
    from scipy.ndimage import map_coordinates, uniform_filter

    if mpp > LOOKED_AT_UM or len(px) < MIN_CELLS:
        return None
    level = level_for(list(levels), LOOKED_AT_UM / mpp)
    um = mpp * float(level.factor.mean())
    places = px / level.factor
    angles = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    steps = np.vstack([[(0.0, 0.0)], AROUND_UM / um * np.column_stack([np.cos(angles), np.sin(angles)])])
    half, margin = FIELD_UM / 2 / um, AROUND_UM / um
    height, width = level.shape
    differences: list[Floats] = []
    for middle in places[np.random.default_rng(0).permutation(len(places))[:N_FIELDS]]:
        left, top = np.clip(middle - half, 0, None).astype(int)
        right, bottom = np.clip(np.ceil(middle + half), 0, (width, height)).astype(int)
        within = np.all(
            (places >= (left + margin, top + margin)) & (places < (right - margin, bottom - margin)), axis=1
        )
        if not within.any():
            continue
        red = np.asarray(level.pixels[0, top:bottom, left:right].compute(), dtype=np.float32)
        red = uniform_filter(red, max(1, round(NUCLEUS_UM / um)))
        at = places[within][:, None] - (left, top) - 0.5 + steps  # (cells, 1 + directions, 2)
        seen = map_coordinates(red, at[..., ::-1].reshape(-1, 2).T, order=1, mode="nearest").reshape(at.shape[:2])
        differences.append(seen[:, 0] - np.median(seen[:, 1:], axis=1))
    difference = np.concatenate([np.empty(0), *differences])
    if len(difference) < MIN_CELLS or not difference.any():  # of one colour all over
        return None
    return float((difference < 0).mean())


def _is_grid(px: Floats) -> bool:
    """Whether places lie on a grid, square or hexagonal."""
    from scipy.spatial import cKDTree

    places = np.unique(px, axis=0)
    to_next = cKDTree(places, balanced_tree=False, compact_nodes=False).query(places, 2)[0][:, 1]
    low, high = np.quantile(to_next, [0.1, 0.9])
    return bool(high - low <= SAME_SPACING * high)
