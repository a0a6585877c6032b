"""Nuclei that a user has: their measures, and whether they lie where the image has tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import KDTree

from stdistill._support.arrays import Float64s, Mask

Geometries = npt.NDArray[np.object_]

DIAMETERS_UM = (3.5, 25.0)
"""Median diameters of nuclei, and of whole cells, that are taken for such (our choice)."""
CLOSEST_UM = 3.5
"""Nuclei of a tissue are no closer to each other than this (median distance to the nearest)."""
ON_IMAGE, ON_TISSUE = 0.9, 0.5
"""Shares of the nuclei that must lie on the image, and of these on tissue."""
ENOUGH = 20
"""Fewer nuclei say nothing by their distances."""
EDGE, EDGE_PX = 0.01, 64
"""Share of a side, and pixels, that a label image may lack: what rounding leaves of smaller levels (our choice)."""
GRID = (np.arange(6) + 0.5) / 6
"""Places in the box around a nucleus, along each axis, at which the image is looked at."""


@dataclass(frozen=True)
class Fit:
    """How well nuclei fit an image, if they are in some unit and frame."""

    diameter_um: float
    """Median; NaN where only centres are given."""
    spacing_um: float
    """Median distance to the nearest other one; NaN for few."""
    on_image: float
    """Share."""
    on_tissue: float
    """Share of those on the image; 0 when there are none."""

    def faults(self) -> list[str]:
        """Say what speaks against it; nothing when nothing does."""
        low, high = DIAMETERS_UM
        is_there = self.on_image >= ON_IMAGE
        faults = {  # comparisons with what is not known are false
            f"{self.on_image:.0%} of them lie on the image": not is_there,
            f"{self.on_tissue:.0%} of them lie on tissue": is_there and self.on_tissue < ON_TISSUE,
            f"their median diameter is {self.diameter_um:.3g} µm": self.diameter_um < low or self.diameter_um > high,
            f"they lie {self.spacing_um:.3g} µm apart (median)": self.spacing_um < CLOSEST_UM,
        }
        return [text for text, is_wrong in faults.items() if is_wrong]


def fit_of(centers: Float64s, diameter: float, mpp: float, shape: tuple[int, int], tissue: Mask) -> Fit:
    """Measure how well nuclei fit an image.

    Parameters
    ----------
    centers
        (n, 2), x and y in pixels of the image.
    diameter
        Median diameter in pixels, NaN for centres alone.
    mpp
        µm per pixel.
    shape
        Height and width of the image.
    tissue
        Where tissue is: an image of the whole slide, as coarse as one likes.
    """
    rows, columns = (np.floor(centers[:, axis] * size / full) for axis, size, full in _axes(tissue.shape, shape))
    there = (rows >= 0) & (rows < tissue.shape[0]) & (columns >= 0) & (columns < tissue.shape[1])
    stained = tissue[rows[there].astype(int), columns[there].astype(int)]
    spacing = float("nan")
    if len(centers) >= ENOUGH:
        spacing = float(np.median(KDTree(centers).query(centers, k=2)[0][:, 1])) * mpp
    return Fit(diameter * mpp, spacing, float(there.mean()), float(stained.mean()) if len(stained) else 0.0)


def _axes(small: tuple[int, ...], shape: tuple[int, int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    return (1, small[0], shape[0]), (0, small[1], shape[1])


def outline_measures(outlines: Geometries) -> tuple[Float64s, Float64s, Float64s]:
    """Area, eccentricity (of the ellipse with the same second moments) and solidity of polygons and multi-polygons."""
    area = shapely.area(outlines)
    parts, owner = shapely.get_parts(shapely.normalize(outlines), return_index=True)  # rings turn as their kind does
    rings, part = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    of = owner[part[ring]]
    middle = shapely.get_coordinates(shapely.centroid(outlines))
    x, y = (points - middle[of]).T
    here = np.flatnonzero(ring[1:] == ring[:-1])  # a ring's last point is its first
    x0, y0, x1, y1 = x[here], y[here], x[here + 1], y[here + 1]
    cross = x0 * y1 - x1 * y0

    def integral(values: Float64s) -> Float64s:
        return np.asarray(np.bincount(of[here], values * cross, len(outlines)), dtype=np.float64)

    whole = integral(np.ones_like(cross)) / 2
    xx, yy = integral(x0**2 + x0 * x1 + x1**2) / 12, integral(y0**2 + y0 * y1 + y1**2) / 12
    xy = integral(x0 * y1 + 2 * x0 * y0 + 2 * x1 * y1 + x1 * y0) / 24
    xx, yy, xy = xx / whole, yy / whole, xy / whole
    half, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    eccentricity = np.sqrt(np.clip(1 - (half - spread) / (half + spread), 0, 1))
    return area, eccentricity, area / shapely.area(shapely.convex_hull(outlines))


def sample_places(outlines: Geometries) -> tuple[Float64s, npt.NDArray[np.intp]]:
    """Spread places over polygons: x and y (m, 2), and to which polygon each belongs; at least one for each."""
    left, top, right, bottom = shapely.bounds(outlines).T
    x = left[:, None, None] + (right - left)[:, None, None] * GRID[:, None]
    y = top[:, None, None] + (bottom - top)[:, None, None] * GRID
    x, y = np.broadcast_arrays(x, y)
    shapely.prepare(outlines)
    inside = shapely.contains_xy(outlines[:, None, None], x, y)
    owner = np.nonzero(inside)[0]
    none = np.flatnonzero(~inside.any(axis=(1, 2)))
    lonely = shapely.get_coordinates(shapely.point_on_surface(outlines[none]))
    return np.concatenate([np.stack([x[inside], y[inside]], axis=1), lonely]), np.concatenate([owner, none])


def check_shape(found: tuple[int, int], image: tuple[int, int], bounds: tuple[int, int, int, int] | None) -> None:
    """Raise when a label image is not as large as the image, or as what was scanned of it, up to its edge.

    Parameters
    ----------
    found
        Height and width of the label image.
    image
        Those of the image at full resolution.
    bounds
        Left, top, width and height of what was scanned, where that is a part.
    """
    frames = [image] if bounds is None else [image, (bounds[3], bounds[2])]
    for frame in frames:
        if all(abs(own - side) <= min(EDGE_PX, EDGE * side) for own, side in zip(found, frame, strict=True)):
            return
    height, width = min(frames, key=lambda frame: abs(np.log(found[0] / found[1] * frame[1] / frame[0])))
    if found == (width, height):
        advice = "Is it transposed? Give labels.T."
    elif found[0] >= height and found[1] >= width:
        advice = f"Is it padded at the right and below? Give labels[:{height}, :{width}]."
    else:
        advice = (
            f"Labels of a smaller level are brought to it by skimage.transform.resize(labels, {(height, width)}, "
            "order=0, preserve_range=True, anti_aliasing=False).astype(labels.dtype)."
        )
    sizes = ", what was scanned of it ".join(f"{each[0]} × {each[1]}" for each in frames)
    msg = (
        f"The label image has {found[0]} × {found[1]} pixels (height × width), and the H&E has {sizes} "
        f"at full resolution. {advice}"
    )
    raise ValueError(msg)
