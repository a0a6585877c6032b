"""µm per pixel: when two figures are of one scale."""

from __future__ import annotations

import math

MPP_TOLERANCE = 0.02
"""Images whose µm per pixel differ by a larger share show tissue at different scales."""
MAX_MPP_DISAGREEMENT = 0.05
"""Two figures for the resolution of one image may differ by this share."""


def is_same_mpp(one: float, other: float) -> bool:
    """Whether pixels are of one size: that of native pixels follows from the alignment, and is never equal twice."""
    return math.isclose(one, other, rel_tol=MPP_TOLERANCE)
