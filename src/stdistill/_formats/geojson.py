"""GeoJSON, as QuPath and others write it: its features, their geometries as arrays and their classes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely

from stdistill._formats.polygons import Geometries, build_polygons, join_parts, mend
from stdistill._formats.text import open_text
from stdistill._support.arrays import Float64s, Mask
from stdistill._support.checks import some
from stdistill._support.warn import warn

NOT_GEOJSON = "is not GeoJSON with features"
NO_CLASS = "without a class"
NO_COORDINATES = "with coordinates that are missing or NaN"
MAX_NAMED = 8
"""So many classes are named in a message."""


class Features(NamedTuple):
    """The features of a file."""

    geometries: Geometries
    """(n,) valid polygons, multi-polygons and points; `None` for a feature that has none of these."""
    faults: npt.NDArray[np.object_]
    """(n,) why there is none; empty where there is one."""
    classes: npt.NDArray[np.object_]
    """(n,) names, ``""`` without one."""
    ids: list[str | None]
    """(n,)"""
    kinds: npt.NDArray[np.object_]
    """(n,) QuPath's types of object, ``""`` without one."""


class _Shape(NamedTuple):
    """A geometry as it was parsed: the rings of its polygons, or a point."""

    kind: str
    polygons: list[list[Float64s]]
    point: Float64s | None = None
    fault: str = ""


def read_features(path: Path, *, missing: str = "GeoJSON file", nuclei: bool = False) -> Features:
    """Read the features of a GeoJSON file: a collection, a list of features, or one feature.

    Parameters
    ----------
    path
        In any usual encoding, also inside of a gzip or a zip.
    missing
        What to call a file that is not there.
    nuclei
        Whether to take the nucleus of a cell of QuPath, where a feature has one, instead of the cell's outline.

    Raises
    ------
    FileNotFoundError
        When it is not there.
    ValueError
        When it is not GeoJSON, or has no features.
    """
    with open_text(path, NOT_GEOJSON, missing=missing) as text:
        content = json.load(text, object_hook=_parse)
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list) or (features and not any(_is_feature(each) for each in features)):
        msg = f"{path} {NOT_GEOJSON}: it holds no objects with a geometry of GeoJSON."
        raise ValueError(msg)
    if not features:
        msg = f"{path} is GeoJSON without any features: it was exported empty."
        raise ValueError(msg)
    geometries, faults, is_partial = _build([_shape_of(each, nuclei) for each in features])
    classes = np.array([_class_of(each) for each in features], dtype=object)
    ids = [str(each["id"]) if isinstance(each, dict) and each.get("id") is not None else None for each in features]
    kinds = np.array([str(_properties(each).get("objectType") or "") for each in features], dtype=object)
    if is_partial.any():
        named = _count_names(Counter(name or "none" for name in classes[is_partial]))
        warn(f"{is_partial.sum()} of {len(features)} features of {path} lose parts {NO_COORDINATES}: {named}.")
    return Features(geometries, faults, classes, ids, kinds)


def warn_of_dropped(
    path: str | Path, faults: npt.NDArray[np.object_], classes: npt.NDArray[np.object_], kept: Mask
) -> None:
    """Warn of the features that are left out: how many, why, of which classes, and which classes vanish with them."""
    if kept.all():
        return
    reasons = []
    for fault, count in Counter(faults[~kept]).most_common():
        named = Counter(name for name in classes[~kept & (faults == fault)] if name)
        reasons.append(f"{count} {fault}{f' ({_count_names(named)})' if named else ''}")
    gone = sorted(set(classes[~kept]) - set(classes[kept]) - {""})
    vanished = f" Nothing is left of the class{'es' * (len(gone) > 1)} {', '.join(map(repr, gone))}." if gone else ""
    warn(f"{(~kept).sum()} of {len(kept)} features of {path} are left out: {'; '.join(reasons)}.{vanished}")


def _count_names(named: Counter[str]) -> str:
    return some((f"{count} of class {name!r}" for name, count in named.most_common()), MAX_NAMED)


def _is_feature(each: Any) -> bool:
    return isinstance(each, dict) and "geometry" in each and isinstance(each["geometry"], _Shape | None)


def _parse(found: dict[str, Any]) -> Any:
    """Turn a geometry into arrays as soon as it was read, so that its lists of numbers are gone."""
    kind = found.get("type")
    if kind == "GeometryCollection" and isinstance(found.get("geometries"), list):
        held = [each for each in found["geometries"] if isinstance(each, _Shape)]
        polygons = [polygon for each in held for polygon in each.polygons]
        kinds = "+".join(sorted({each.kind for each in held}))
        return _Shape(f"{kind} of {kinds or 'nothing'}", polygons, fault=next((e.fault for e in held if e.fault), ""))
    if not isinstance(kind, str) or "coordinates" not in found:
        return found
    coordinates = found["coordinates"]
    try:
        if kind == "Polygon":
            return _Shape(kind, [_rings(coordinates)] if coordinates else [])
        if kind == "MultiPolygon":
            return _Shape(kind, [_rings(each) for each in coordinates if each])
        if kind == "Point":
            return _Shape(kind, [], point=np.array(coordinates[:2], dtype=np.float64).reshape(2))
    except (TypeError, ValueError, IndexError):
        return _Shape(kind, [], fault="with coordinates that are no pairs of numbers")
    return _Shape(kind, [])


def _rings(coordinates: Any) -> list[Float64s]:
    """Return the vertices (n, 2) of each ring; a third coordinate is left out."""
    rings = [np.array(ring, dtype=np.float64).reshape(len(ring), -1)[:, :2] for ring in coordinates]
    if any(ring.shape[1] < 2 for ring in rings):
        msg = "numbers that are no pairs"
        raise ValueError(msg)
    return rings


def _shape_of(feature: Any, nuclei: bool) -> _Shape | None:
    if not isinstance(feature, dict):
        return None
    nucleus = feature.get("nucleusGeometry") if nuclei else None
    found = nucleus if isinstance(nucleus, _Shape) else feature.get("geometry")
    return found if isinstance(found, _Shape) else None


def _build(shapes: list[_Shape | None]) -> tuple[Geometries, npt.NDArray[np.object_], Mask]:
    """Return the geometries of features, `None` for what is none, why it is none, and which have lost parts."""
    n = len(shapes)
    polygons = [(i, polygon) for i, each in enumerate(shapes) if each is not None for polygon in each.polygons]
    rings = [ring for _, polygon in polygons for ring in polygon]
    n_rings = np.array([len(polygon) for _, polygon in polygons], dtype=np.intp)
    built = build_polygons(
        np.concatenate([np.empty((0, 2)), *rings]),
        np.array([len(ring) for ring in rings], dtype=np.intp),
        np.repeat(np.arange(len(polygons)), n_rings),
        len(polygons),
    )
    owner = np.array([i for i, _ in polygons], dtype=np.intp)
    geometries = mend(join_parts(built, owner, n))
    faults = np.array([_fault(each) for each in shapes], dtype=object)
    broken = np.bincount(owner[shapely.is_missing(built)], minlength=n) > 0
    faults[shapely.is_missing(geometries) & (faults == "")] = "with polygons that have no area"
    faults[shapely.is_missing(geometries) & broken] = NO_COORDINATES
    at = [i for i, each in enumerate(shapes) if each is not None and each.point is not None]
    points = np.array([each.point for each in shapes if each is not None and each.point is not None]).reshape(-1, 2)
    finite = np.isfinite(points).all(axis=1)
    geometries[np.array(at, dtype=np.intp)[finite]] = shapely.points(points[finite])
    faults[np.array(at, dtype=np.intp)] = np.where(finite, "", NO_COORDINATES)
    there = ~shapely.is_missing(geometries)
    is_partial = there & (broken | (faults != ""))
    faults[there] = ""
    return geometries, faults, is_partial


def _fault(found: _Shape | None) -> str:
    if found is None:
        return "without a geometry"
    if found.fault or found.polygons:
        return found.fault
    return f"that are no polygons but {found.kind}"


def _properties(feature: Any) -> dict[str, Any]:
    found = feature.get("properties") if isinstance(feature, dict) else None
    return found if isinstance(found, dict) else {}


def _class_of(feature: Any) -> str:
    """Return the class that QuPath gives an object, else an annotation's name; the first may be JSON in a string."""
    properties = _properties(feature)
    found = properties.get("classification")
    if not found and properties.get("objectType", "annotation") == "annotation":  # the name of a cell is its id
        found = properties.get("name")
    if isinstance(found, str) and found.startswith("{"):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            return found
    if isinstance(found, dict):
        names = found.get("names")
        found = found.get("name") or (": ".join(map(str, names)) if isinstance(names, list) else "")
    return str(found) if found else ""
