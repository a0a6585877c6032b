"""Outlines of labelled pixels: a label image becomes a polygon for each label, with exactly the area of its pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage
from skimage.measure import label

from stdistill._formats.polygons import Geometries, build_polygons, mend
from stdistill._support.arrays import Float64s, Integers, Rows
from stdistill._support.jit import njit
from stdistill._support.warn import warn

MANY_LABELS = 1 << 26
"""Numbers of labels beyond it, or beyond the number of pixels, are made smaller first: they index arrays."""


def outline_labels(labels: Integers, source: str) -> tuple[Geometries, npt.NDArray[np.int64]]:
    """Outline the labels of an image.

    Parameters
    ----------
    labels
        (height, width), 0 for the background.
    source
        Where they are from, for messages.

    Returns
    -------
    (n,) polygons in pixels, in which pixel *i* covers [i, i + 1), and their labels, ascending. Holes are filled; of a
    label in several pieces the largest is taken. Pixels that share a side are of one piece.
    """
    known = None
    if labels.max(initial=0) >= min(MANY_LABELS, labels.size):
        known, inverse = np.unique(np.append(0, np.maximum(labels, 0).ravel()), return_inverse=True)
        labels = inverse[1:].reshape(labels.shape)
    first, areas = _find_first(labels, int(labels.max(initial=0)) + 1)
    present = np.flatnonzero(areas)
    polygons = _outline(labels, present, first[present])
    torn = np.flatnonzero(shapely.area(polygons) < areas[present])
    if len(torn):
        warn(f"{len(torn)} of {len(present)} labels of {source} lie in several pieces: the largest of each is taken.")
        boxes = ndimage.find_objects(labels)
        for i in torn:
            polygons[i] = _outline_largest(labels, boxes[present[i] - 1], present[i])
    return polygons, present if known is None else known[present]


def _outline(labels: Integers, present: Rows, first: Rows) -> Geometries:
    corners, sizes = _trace(labels, present, first)
    return mend(build_polygons(corners, sizes, np.arange(len(present)), len(present)))


def _outline_largest(labels: Integers, box: tuple[slice, slice], which: int) -> object:
    """Outline the largest piece of a label."""
    pieces = label(labels[box] == which, connectivity=1)
    largest = np.array([np.bincount(pieces[pieces > 0]).argmax()])
    first, _ = _find_first(pieces, int(largest[0]) + 1)
    (outline,) = _outline(pieces, largest, first[largest])
    corner = np.array([box[1].start, box[0].start])
    return shapely.transform(outline, lambda points: points + corner)


@njit(cache=True)
def _find_first(labels: Integers, n: int) -> tuple[Rows, Rows]:
    """Find the first pixel of each label, row by row, and its number of pixels."""
    height, width = labels.shape
    first, areas = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for y in range(height):
        for x in range(width):
            which = labels[y, x]
            if 0 < which < n:
                if first[which] < 0:
                    first[which] = y * width + x
                areas[which] += 1
    return first, areas


@njit(cache=True)
def _trace(labels: Integers, present: Rows, first: Rows) -> tuple[Float64s, Rows]:
    """Walk around the piece of each label that `first` is in, its pixels on the right, and note where the way turns."""
    height, width = labels.shape
    sizes = np.zeros(len(present), dtype=np.int64)
    corners = np.empty((64 * len(present) + 64, 2))
    n = 0
    dx, dy = np.array([1, 0, -1, 0]), np.array([0, 1, 0, -1])  # east, south, west, north
    for i in range(len(present)):
        which, start = present[i], n
        left, top = first[i] % width, first[i] // width
        x, y, way = left, top, 0
        while True:
            x, y = x + dx[way], y + dy[way]
            # The two pixels ahead of the corner (x, y): to the right of the way and to the left of it.
            right_x, right_y = x - (way == 1 or way == 2), y - (way == 2 or way == 3)
            left_x, left_y = x - (way == 2 or way == 3), y - (way == 0 or way == 3)
            is_right = 0 <= right_x < width and 0 <= right_y < height and labels[right_y, right_x] == which
            is_left = 0 <= left_x < width and 0 <= left_y < height and labels[left_y, left_x] == which
            turn = 1 if not is_right else (3 if is_left else 0)
            if turn:
                if n == len(corners):
                    grown = np.empty((2 * n, 2))
                    grown[:n] = corners
                    corners = grown
                corners[n, 0], corners[n, 1] = x, y
                n += 1
                way = (way + turn) % 4
            if x == left and y == top and way == 0:
                break
        sizes[i] = n - start
    return corners[:n], sizes
