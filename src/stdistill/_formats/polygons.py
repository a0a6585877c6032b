"""Polygons by the million, from their vertices: built, mended and told from other geometries, without a loop."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import shapely

from stdistill._support.arrays import Float64s, Integers, Rows

Geometries: TypeAlias = npt.NDArray[np.object_]
"""Of shapely; `None` for what could not be used."""

POLYGON = shapely.GeometryType.POLYGON


def build_polygons(points: Float64s, ring_sizes: Integers, polygon_of_ring: Rows, n: int) -> Geometries:
    """Make polygons of rings.

    Parameters
    ----------
    points
        The vertices of all rings, one after the other; whether the first is repeated at the end does not matter.
    ring_sizes
        How many of them each ring has.
    polygon_of_ring
        The polygon, ascending, that each ring belongs to; the first of a polygon is its outline, the others are holes.
    n
        Number of polygons.

    Returns
    -------
    (n,) polygons; `None` for those that have no ring, or one with fewer than three vertices or a vertex that is NaN or
    infinite.
    """
    ends = np.cumsum(ring_sizes)
    ring_of_point = np.repeat(np.arange(len(ring_sizes)), ring_sizes)
    odd = np.bincount(ring_of_point, ~np.isfinite(points).all(axis=1), minlength=len(ring_sizes)) > 0
    is_open = np.zeros(len(ring_sizes), dtype=bool)
    some = ring_sizes > 0
    is_open[some] = (points[ends[some] - ring_sizes[some]] != points[ends[some] - 1]).any(axis=1)
    odd |= ring_sizes + is_open < 4
    good = np.bincount(polygon_of_ring, minlength=n) > 0
    good[polygon_of_ring[odd]] = False

    keep = good[polygon_of_ring]
    points, sizes, is_open = points[keep[ring_of_point]], ring_sizes[keep], is_open[keep]
    ends = np.cumsum(sizes)
    points = np.insert(points, ends[is_open], points[(ends - sizes)[is_open]], axis=0)
    ring_offsets = np.r_[0, np.cumsum(sizes + is_open)]
    polygon_offsets = np.r_[0, np.cumsum(np.bincount(polygon_of_ring[keep], minlength=n)[good])]
    polygons = np.full(n, None, dtype=object)
    polygons[good] = shapely.from_ragged_array(POLYGON, points, (ring_offsets, polygon_offsets))
    return polygons


def join_parts(polygons: Geometries, owner: Rows, n: int) -> Geometries:
    """Join the polygons, as far as they are there, of each of `n` owners (ascending) to one geometry.

    A single polygon stays one: QuPath reads no multi-polygon with one part.
    """
    there = ~shapely.is_missing(polygons)
    polygons, owner = polygons[there], owner[there]
    joined = np.full(n, None, dtype=object)
    single = np.bincount(owner, minlength=n)[owner] == 1
    joined[owner[single]] = polygons[single]
    several, at = np.unique(owner[~single], return_inverse=True)
    joined[several] = shapely.multipolygons(polygons[~single], indices=at) if len(several) else []
    return joined


def mend(geometries: Geometries) -> Geometries:
    """Return the polygons and multi-polygons of what is there, valid; of collections the parts that are polygons."""
    mended = geometries.copy()
    odd = ~shapely.is_missing(geometries) & ~(shapely.is_valid(geometries) & is_polygonal(geometries))
    if odd.any():
        # Twice: a collection holds multi-polygons, which hold polygons.
        parts, first = shapely.get_parts(shapely.make_valid(geometries[odd]), return_index=True)
        parts, second = shapely.get_parts(parts, return_index=True)
        is_polygon = (shapely.get_type_id(parts) == POLYGON) & ~shapely.is_empty(parts)
        mended[odd] = join_parts(parts[is_polygon], first[second][is_polygon], int(odd.sum()))
    return mended


def is_polygonal(geometries: Geometries) -> npt.NDArray[np.bool_]:
    """Tell the polygons and multi-polygons that are not empty."""
    kinds = (POLYGON, shapely.GeometryType.MULTIPOLYGON)
    polygonal: npt.NDArray[np.bool_] = np.isin(shapely.get_type_id(geometries), kinds) & ~shapely.is_empty(geometries)
    return polygonal
