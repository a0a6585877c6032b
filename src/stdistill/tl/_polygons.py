"""A pathologist's annotations: labels of the cells from polygons in a GeoJSON file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.errors import ShapelyError
from shapely.geometry import shape

from stdistill.tl._labels import Labels

logger = logging.getLogger("stdistill")


def label_by_polygons(centers: npt.NDArray[np.float64], path: str | Path) -> Labels:
    """Label each cell with the class of the smallest polygon it lies in.

    Parameters
    ----------
    centers
        (n, 2), µm.
    path
        GeoJSON, polygons in the same µm: a FeatureCollection or a list of features, as QuPath exports them. The class
        is ``properties.classification`` (its ``name`` or ``names``, or a string), else ``properties.name``.
    """
    polygons, classes = _read_polygons(Path(path))
    # Where polygons overlap the last one counts: the smallest, which lies in the others.
    order = np.argsort(-shapely.area(polygons), kind="stable")
    polygons, classes = polygons[order], classes[order]
    inside, cells = shapely.STRtree(shapely.points(centers)).query(polygons, predicate="intersects")
    if not len(cells):
        msg = (
            f"The {len(polygons)} polygons of {path} cover no cell: they span "
            f"{_extent(shapely.total_bounds(polygons))}, the cells "
            f"{_extent(np.r_[centers.min(axis=0), centers.max(axis=0)])}. Polygons must be in µm, in the frame of "
            '.obsm["spatial"].'
        )
        raise ValueError(msg)
    names, numbers = np.unique(classes, return_inverse=True)
    codes = np.full(len(centers), -1, dtype=np.intp)
    by_polygon = np.argsort(inside, kind="stable")
    codes[cells[by_polygon]] = numbers[inside[by_polygon]]
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
