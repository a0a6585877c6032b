"""A pathologist's annotations: labels of the cells from the polygons that they lie in."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from stdistill._formats.geojson import NO_CLASS, read_features, warn_of_dropped
from stdistill._formats.polygons import Geometries, build_polygons, is_polygonal, mend
from stdistill._formats.text import named_as, read_comments, read_csv
from stdistill._measures.labels import Labels
from stdistill._support.reading import check_is_file
from stdistill._support.warn import warn

logger = logging.getLogger("stdistill")

MISSING = "file of polygons"
NO_SELECTION = "is no selection of Xenium Explorer"
SELECTION_NAME = "#Selection name:"
FEWEST = 3
"""So many polygons seldom lie in one quarter of a slide: a sixty-fourth of the time where each may lie anywhere."""


def label_by_polygons(points: npt.NDArray[np.float64], path: str | Path, frame: str, unit: str = "px") -> Labels:
    """Label each cell with the class of the smallest polygon it lies in.

    Parameters
    ----------
    points
        (n, 2), the cells in the frame of the polygons; NaN for those that are not in it.
    path
        GeoJSON: a FeatureCollection or a list of features, as QuPath exports them. The class is
        ``properties.classification`` (its ``name`` or ``names``, or a string), else ``properties.name``. Or a CSV with
        the outlines of selections, as Xenium Explorer exports them, in µm.
    frame
        What points and polygons are in, for messages.
    unit
        ``"px"`` or ``"um"``.
    """
    path = Path(path).expanduser()
    check_is_file(path, MISSING)
    if path.name.lower().endswith((".csv", ".csv.gz")):
        polygons, classes = _read_selection(path, unit)
    else:
        polygons, classes = _read_polygons(path)
    # Where polygons overlap the last one counts: the smallest, which lies in the others.
    order = np.argsort(-shapely.area(polygons), kind="stable")
    polygons, classes = polygons[order], classes[order]
    placed = np.flatnonzero(np.isfinite(points).all(axis=1))
    if not len(placed):
        msg = f"No cell has a place in {frame}, in which the polygons of {path} are taken to be."
        raise ValueError(msg)
    inside, found = shapely.STRtree(shapely.points(points[placed])).query(polygons, predicate="intersects")
    cells = placed[found]
    n_covering, span = len(np.unique(inside)), shapely.total_bounds(polygons)
    both = f"they span {_extent(span)}, the cells {_extent(_span(points[placed]))}."
    if n_covering < max(1, len(polygons) / 2):
        where = f"{both} Both are taken to be in {frame}; polygons_unit= says what the polygons are in."
        if not n_covering:
            msg = f"The {len(polygons)} polygons of {path} cover no cell: {where}"
            raise ValueError(msg)
        warn(f"Only {n_covering} of the {len(polygons)} polygons of {path} cover a cell: {where}")
    elif len(polygons) >= FEWEST and (span[2:] < points[placed].max(axis=0) / 2).all():
        warn(
            f"All {len(polygons)} polygons of {path} lie in the upper left quarter of the slide: {both} So do polygons "
            'in µm that are read as pixels (polygons_unit="um" says what they are), and those that were drawn on a '
            "smaller copy of the picture: the wrong cells are annotated then."
        )
    names, numbers = np.unique(classes, return_inverse=True)
    codes = np.full(len(points), -1, dtype=np.intp)
    by_polygon = np.argsort(inside, kind="stable")
    codes[cells[by_polygon]] = numbers[inside[by_polygon]]
    logger.info("%d of %d cells lie in the %d polygons of %s.", (codes >= 0).sum(), len(codes), len(polygons), path)
    return Labels(codes, names.tolist())


def _read_polygons(path: Path) -> tuple[Geometries, npt.NDArray[np.str_]]:
    features = read_features(path, missing=MISSING)
    geometries, faults, classes = features.geometries, features.faults, features.classes
    point = ~shapely.is_missing(geometries) & ~is_polygonal(geometries)
    faults = np.where(point, "that are no polygons but Point", faults)
    faults = np.where((faults == "") & (classes == ""), NO_CLASS, faults)
    usable = faults == ""
    if not usable.any():
        msg = (
            f"None of the {len(usable)} features of {path} is a polygon with a class (properties.classification.name, "
            f"as QuPath writes it, or properties.name): there are features {', '.join(sorted(set(faults)))}."
        )
        raise ValueError(msg)
    warn_of_dropped(path, faults, classes, usable)
    return geometries[usable], classes[usable].astype(str)


def _read_selection(path: Path, unit: str) -> tuple[Geometries, npt.NDArray[np.str_]]:
    """Read the outlines of selections (X, Y, and Selection where there are several)."""
    comments = read_comments(path, NO_SELECTION)
    named = [line.removeprefix(SELECTION_NAME).strip() for line in comments if line.startswith(SELECTION_NAME)]
    rows = read_csv(path, NO_SELECTION, keep_default_na=False, na_values=[""])  # a selection may be called NA
    rows = named_as(rows, ("X", "Y", "Selection"), path)
    if not {"X", "Y"} <= set(rows.columns):
        msg = f"{path} {NO_SELECTION} (X, Y and perhaps Selection): it has the columns {list(rows.columns)}."
        raise ValueError(msg)
    if unit != "um":
        msg = f'{path} is a selection of Xenium Explorer, which is in µm: give polygons_unit="um".'
        raise ValueError(msg)
    names = (
        rows["Selection"].astype(str) if "Selection" in rows else np.repeat(named[0] if named else path.stem, len(rows))
    )
    starts = np.flatnonzero(np.r_[True, np.asarray(names[1:]) != np.asarray(names[:-1])])
    outlines = build_polygons(
        rows[["X", "Y"]].to_numpy(np.float64), np.diff(np.r_[starts, len(rows)]), np.arange(len(starts)), len(starts)
    )
    polygons = mend(outlines)
    usable = ~shapely.is_missing(polygons)
    if not usable.any():
        msg = f"{path} {NO_SELECTION}: it holds no outline of three or more places."
        raise ValueError(msg)
    return polygons[usable], np.asarray(names)[starts][usable].astype(str)


def _span(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _extent(bounds: npt.NDArray[np.float64]) -> str:
    left, top, right, bottom = bounds
    return f"x {left:.0f} to {right:.0f} and y {top:.0f} to {bottom:.0f}"
