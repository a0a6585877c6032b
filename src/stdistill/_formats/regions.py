"""Regions of tissue from labelled cells."""

from __future__ import annotations

import numpy as np
import shapely
from scipy import ndimage
from skimage.measure import find_contours

from stdistill._formats.polygons import Geometries, build_polygons, mend
from stdistill._support.arrays import Float64s, Rows

REACH_UM = 20.0
"""A place farther than this from all cells is in no region: about twice the distance of neighbouring cells."""
STEP_UM = 2.5
"""Side of the pixels, a quarter of a cell."""
MAX_PIXELS = 50_000_000
"""Larger slides get larger pixels: this many take 1 GB."""


def merge_cells(centers: Float64s, codes: Rows, n: int) -> Geometries:
    """Cut the plane into regions of labels: a place has the label of the nearest cell, if there is one in reach.

    Regions of different labels overlap by no more than half a pixel, and have holes where other cells lie.

    Parameters
    ----------
    centers
        (m, 2) cells, µm.
    codes
        (m,) labels from 0 to `n` - 1; -1 for a cell without one, around which there is no region.

    Returns
    -------
    (n,) polygons or multi-polygons in µm; `None` for a label without any cell.
    """
    regions = np.full(n, None, dtype=object)
    if not len(centers):
        return regions
    low = centers.min(axis=0) - REACH_UM
    extent = np.ptp(centers, axis=0) + 2 * REACH_UM
    step = max(STEP_UM, float(np.sqrt(extent.prod() / MAX_PIXELS)))
    labels = _nearest_labels(
        ((centers - low) / step).astype(np.intp), codes, np.ceil(extent / step).astype(int) + 1, step
    )
    for code, box in enumerate(ndimage.find_objects(labels)[1 : n + 1]):
        if box is None:
            continue
        mask = np.pad(labels[box] == code + 2, 1).astype(np.float32)
        # Indices are of centres of pixels, and the mask has one more row and column around it.
        corner = low + (np.array([box[1].start, box[0].start]) - 0.5) * step
        rings = find_contours(mask, 0.5)
        points = np.concatenate(rings)[:, ::-1] * step + corner
        # One by one, and by less than what lies between two of them: none can come to overlap another.
        polygons = shapely.simplify(_nest(points, np.array([len(ring) for ring in rings])), step / 4)
        regions[code] = polygons[0] if len(polygons) == 1 else shapely.multipolygons(polygons)
    return mend(regions)


def _nest(points: Float64s, sizes: Rows) -> Geometries:
    """Make polygons with holes of the borders of a mask, which turn one way around it, the other in its holes."""
    rings = shapely.linearrings(points, indices=np.repeat(np.arange(len(sizes)), sizes))
    filled = shapely.polygons(rings)
    areas = shapely.area(filled)
    is_hole = shapely.is_ccw(rings) != shapely.is_ccw(rings[areas.argmax()])
    outer, holes = np.flatnonzero(~is_hole), np.flatnonzero(is_hole)
    polygon_of_ring = np.zeros(len(rings), dtype=np.intp)
    polygon_of_ring[outer] = np.arange(len(outer))
    around, hole = shapely.STRtree(shapely.get_point(rings[holes], 0)).query(filled[outer], predicate="contains")
    order = np.argsort(-areas[outer[around]], kind="stable")
    polygon_of_ring[holes[hole[order]]] = around[order]  # the last, smallest border that the hole lies in counts
    order = np.lexsort((is_hole, polygon_of_ring))
    return build_polygons(shapely.get_coordinates(rings[order]), sizes[order], polygon_of_ring[order], len(outer))


def _nearest_labels(pixels: Rows, codes: Rows, size: Rows, step: float) -> Rows:
    """Return an image (y, x): 0 out of reach, 1 nearest to a cell without a label, 2 and more for the labels."""
    width, height = size
    place = pixels[:, 1] * width + pixels[:, 0]
    # Of several cells in one pixel the most frequent label counts: it is written last.
    n = codes.max() + 3
    pairs, counts = np.unique(place * n + codes + 2, return_counts=True)
    place, labels = np.divmod(pairs[np.argsort(counts, kind="stable")], n)
    seeds = np.zeros((height, width), dtype=np.int32)
    seeds.ravel()[place] = labels
    distance, (y, x) = ndimage.distance_transform_edt(seeds == 0, sampling=step, return_indices=True)
    nearest: Rows = seeds[y, x]
    nearest[distance > REACH_UM] = 0
    return nearest
