"""Outlines of labelled pixels as polygons."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from stdistill._support.jit import njit

TOLERANCE_PX = 0.3
"""Vertices are left out that lie within this of the simpler outline (our choice)."""


def trace_outlines(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.object_]:
    """Trace the outer border of each label.

    Parameters
    ----------
    labels
        Label image (h, w): 1 … n, 0 elsewhere. All pixels of a label are connected by their sides.

    Returns
    -------
    Polygons (n), in pixels from the upper left corner of the image, so that the centre of its first pixel is at
    (0.5, 0.5). They run through the middles of the sides of the border's pixels, which makes slopes of stairs.
    """
    n = int(labels.max(initial=0))
    flat = labels.ravel()
    places = np.flatnonzero(flat)
    first = np.full(n, flat.size, dtype=np.int64)
    np.minimum.at(first, flat[places] - 1, places)
    padded = np.pad(labels, 1)
    n_sides = sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in (0, 1))
    vertices, starts = _walk(padded, first // labels.shape[1] + 1, first % labels.shape[1] + 1, 2 * n_sides)
    rings = shapely.linearrings(vertices, indices=np.repeat(np.arange(n), np.diff(starts)))
    polygons: npt.NDArray[np.object_] = shapely.simplify(shapely.polygons(rings), TOLERANCE_PX)
    return polygons


@njit(nogil=True, cache=True)
def _walk(
    labels: npt.NDArray[np.int32], rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], capacity: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Walk around each label with it to the right, and note the middle of every side at which a turn begins or ends.

    `labels` has a margin of one pixel, which the vertices (x, y) do not count.
    """
    vertices = np.empty((capacity, 2))
    starts = np.zeros(len(rows) + 1, dtype=np.int64)
    step_row, step_column = (0, 1, 0, -1), (1, 0, -1, 0)  # right, down, left, up
    # From a corner, the pixel ahead to the right. The one ahead to the left is that of the direction before.
    ahead_row, ahead_column = (0, 0, -1, -1), (0, -1, -1, 0)
    n = 0
    for i in range(len(rows)):
        row, column, direction = rows[i], columns[i], 0
        label = labels[row, column]
        turned = True  # the walk starts at the corner after an upward side
        while True:
            middle_x = column - 1 + 0.5 * step_column[direction]
            middle_y = row - 1 + 0.5 * step_row[direction]
            row += step_row[direction]
            column += step_column[direction]
            left = (direction + 3) % 4
            if labels[row + ahead_row[direction], column + ahead_column[direction]] != label:
                following = (direction + 1) % 4
            elif labels[row + ahead_row[left], column + ahead_column[left]] != label:
                following = direction
            else:
                following = left
            if turned or following != direction:
                vertices[n] = middle_x, middle_y
                n += 1
            turned = following != direction
            direction = following
            if row == rows[i] and column == columns[i] and direction == 0:
                break
        starts[i + 1] = n
    return vertices[:n], starts
