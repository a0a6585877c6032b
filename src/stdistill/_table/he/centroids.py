"""Centroids of the shapes or labels that a table annotates, for as many of its cells as are needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Floats
from stdistill._table.he.images import full_resolution

ENOUGH_CELLS = 2000
"""So many cells fix an affine map to far below a hundredth of a pixel."""
WINDOW_PX = 2048
"""Labels are read in windows of this side: a slide's labels have billions of pixels."""


def element_centroids(element: Any, instances: npt.NDArray[Any], region: str) -> tuple[npt.NDArray[np.int64], Floats]:
    """Find the centroids of the cells `instances` in the element's own coordinates.

    Parameters
    ----------
    element
        Circles, polygons, or labels (single- or multi-scale).
    instances
        The ids by which the table names its cells.
    region
        Name of the element, for messages.

    Returns
    -------
    Positions in `instances` of the cells that were looked up (all, or `ENOUGH_CELLS` spread over the slide)
    and their centroids (x, y). Never empty.
    """
    from geopandas import GeoDataFrame

    if isinstance(element, GeoDataFrame):
        rows, centroids = _shape_centroids(element, instances, region)
    else:
        rows, centroids = _label_centroids(element, instances)
    if len(rows) == 0:
        msg = (
            f"None of the {len(instances)} cells of the table (ids such as {instances[:3].tolist()}) is in "
            f"{region!r}, which it annotates. Link them by the right ids with "
            "sdata.set_table_annotates_spatialelement(table_name, region, region_key, instance_key)."
        )
        raise ValueError(msg)
    return rows, centroids


def _shape_centroids(shapes: Any, instances: npt.NDArray[Any], region: str) -> tuple[npt.NDArray[np.int64], Floats]:
    where = shapes.index.get_indexer(instances)
    found = np.flatnonzero(where >= 0)
    if 0 < len(found) < len(instances):
        lost = instances[where < 0]
        msg = (
            f"{len(lost)} of the {len(instances)} cells of the table (such as {lost[:3].tolist()}) are not in "
            f"{region!r}, which it annotates. Keep the common ones with "
            "spatialdata.match_table_to_element, or link the table to another element."
        )
        raise ValueError(msg)
    rows = found[:: max(1, len(found) // ENOUGH_CELLS)]
    centroids = shapes.geometry.iloc[where[rows]].centroid
    return rows, np.c_[centroids.x, centroids.y].astype(np.float64)


def _label_centroids(labels: Any, instances: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], Floats]:
    """Read windows until enough cells have been seen."""
    order = np.argsort(instances)
    rows: list[npt.NDArray[np.int64]] = []
    centroids: list[Floats] = []
    for x, y, window in whole_labels(labels):
        ids, xy = _centroids(window)
        at = np.searchsorted(instances[order], ids)
        known = (at < len(instances)) & (instances[order[np.minimum(at, len(instances) - 1)]] == ids)
        rows.append(order[at[known]])
        centroids.append(xy[known] + (x, y))
        if sum(map(len, rows)) >= ENOUGH_CELLS:
            break
    return np.concatenate(rows), np.concatenate(centroids)


def whole_labels(labels: Any) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
    """Read labels window by window, in random order: left, top, and the labels that lie wholly inside."""
    raster = full_resolution(labels)
    height, width = raster.sizes["y"], raster.sizes["x"]
    corners = [(y, x) for y in range(0, height, WINDOW_PX) for x in range(0, width, WINDOW_PX)]
    np.random.default_rng(0).shuffle(corners)
    for y, x in corners:
        window = raster.data[y : y + WINDOW_PX, x : x + WINDOW_PX].compute()
        yield x, y, _without_cut(window, y > 0, x > 0, y + WINDOW_PX < height, x + WINDOW_PX < width)


def _without_cut(window: npt.NDArray[Any], top: bool, left: bool, bottom: bool, right: bool) -> npt.NDArray[Any]:
    """Return a window without the labels that its edges, where they are no edges of the image, cut."""
    edges = [window[0]] * top + [window[:, 0]] * left + [window[-1]] * bottom + [window[:, -1]] * right
    cut = np.unique(np.concatenate(edges)) if edges else np.array([], dtype=window.dtype)
    whole: npt.NDArray[Any] = np.where(np.isin(window, cut), 0, window)
    return whole


def _centroids(window: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Floats]:
    """Ids and centroids (x, y; pixel i has its centre at i + 0.5) of labels."""
    ids, flat = np.unique(window, return_inverse=True)
    flat = flat.ravel()
    y, x = np.indices(window.shape).reshape(2, -1) + 0.5
    sums = [np.bincount(flat, axis, len(ids)) for axis in (x, y)]
    there = ids != 0
    return ids[there], (np.stack(sums, axis=1) / np.bincount(flat)[:, None])[there]
