"""A pathologist's annotations: labels of the cells from polygons in a GeoJSON file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.errors import ShapelyError
from shapely.geometry import shape

from stdistill._measures.labels import Labels
from stdistill._support.warn import warn

if TYPE_CHECKING:
    pass

logger = logging.getLogger("stdistill")


def label_by_polygons(points: npt.NDArray[np.float64], path: str | Path, frame: str) -> Labels:
    """Label each cell with the class of the smallest polygon it lies in.

    Parameters
    ----------
    points
        (n, 2), the cells in the frame of the polygons; NaN for those that are not in it.
    path
        GeoJSON: a FeatureCollection or a list of features, as QuPath exports them. The class is
        ``properties.classification`` (its ``name`` or ``names``, or a string), else ``properties.name``.
    frame
        What points and polygons are in, for messages.
    """
    polygons, classes = _read_polygons(Path(path))
    # Where polygons overlap the last one counts: the smallest, which lies in the others.
    order = np.argsort(-shapely.area(polygons), kind="stable")
    polygons, classes = polygons[order], classes[order]
    placed = np.flatnonzero(np.isfinite(points).all(axis=1))
    if not len(placed):
        msg = f"No cell has a place in {frame}, in which the polygons of {path} are taken to be."
        raise ValueError(msg)
    inside, found = shapely.STRtree(shapely.points(points[placed])).query(polygons, predicate="intersects")
    cells = placed[found]
    n_covering = len(np.unique(inside))
    if n_covering < max(1, len(polygons) / 2):
        cells_span = shapely.total_bounds(shapely.points(points[placed]))
        where = (
            f"they span {_extent(shapely.total_bounds(polygons))}, the cells {_extent(cells_span)}. Both are taken to "
            f"be in {frame}; polygons_unit= says what the polygons are in."
        )
        if not n_covering:
            msg = f"The {len(polygons)} polygons of {path} cover no cell: {where}"
            raise ValueError(msg)
        warn(f"Only {n_covering} of the {len(polygons)} polygons of {path} cover a cell: {where}")
    names, numbers = np.unique(classes, return_inverse=True)
    codes = np.full(len(points), -1, dtype=np.intp)
    by_polygon = np.argsort(inside, kind="stable")
    codes[cells[by_polygon]] = numbers[inside[by_polygon]]
    logger.info("%d of %d cells lie in the %d polygons of %s.", (codes >= 0).sum(), len(codes), len(polygons), path)
    return Labels(codes, names.tolist())


def _read_polygons(path: Path) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.str_]]:
    if not path.is_file():
        msg = f"There is no file of polygons {path}."
        raise FileNotFoundError(msg)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        features = content.get("features", [content]) if isinstance(content, dict) else content
        found = [(shape(feature["geometry"]), _class_of(feature.get("properties") or {})) for feature in features]
    except (ValueError, KeyError, TypeError, AttributeError, ShapelyError) as error:
        msg = f"{path} is not GeoJSON with features ({type(error).__name__}: {error})."
        raise ValueError(msg) from error
    usable = [
        (geometry, name) for geometry, name in found if name and geometry.geom_type in ("Polygon", "MultiPolygon")
    ]
    if not usable:
        msg = (
            f"None of the {len(found)} features of {path} is a polygon with a class (properties.classification.name, "
            "as QuPath writes it, or properties.name)."
        )
        raise ValueError(msg)
    if len(usable) < len(found):
        logger.info(
            "%d of %d features of %s have no class or are no polygons.", len(found) - len(usable), len(found), path
        )
    geometries, names = zip(*usable, strict=True)
    return shapely.make_valid(np.array(geometries, dtype=object)), np.array(names)


def _class_of(properties: dict[str, Any]) -> str | None:
    found = properties.get("classification") or properties.get("name")
    if isinstance(found, dict):
        found = found.get("name") or ": ".join(found.get("names", []))
    return str(found) if found else None


def _extent(bounds: npt.NDArray[np.float64]) -> str:
    left, top, right, bottom = bounds
    return f"x {left:.0f} to {right:.0f} and y {top:.0f} to {bottom:.0f}"
