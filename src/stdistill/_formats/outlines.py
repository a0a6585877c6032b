"""Outlines or centres of nuclei that a user has, from whatever they were written by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from stdistill._formats.geojson import NO_COORDINATES, read_features, warn_of_dropped
from stdistill._formats.label_image import outline_labels
from stdistill._formats.polygons import Geometries, build_polygons, is_polygonal, mend
from stdistill._formats.text import read_csv
from stdistill._support.arrays import Float64s, Mask
from stdistill._support.checks import check_choice
from stdistill._support.reading import check_is_file, reading
from stdistill._support.warn import warn

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

Unit = Literal["px", "um"]
Source: TypeAlias = "str | Path | GeoDataFrame | npt.NDArray[Any]"

MISSING = "file of nuclei"
NO_NUCLEI = "holds no nuclei"
EXPECTED = (
    "expected GeoJSON (.geojson, .json, also .gz or .zip), a label image (.tif, .npy), polygons or vertices "
    "(.parquet), or centres (.csv)"
)
CENTERS = (
    ("x", "y", None),
    ("x_centroid", "y_centroid", None),
    ("centroid_x", "centroid_y", None),
    ("centroid x px", "centroid y px", "px"),
    ("centroid x µm", "centroid y µm", "um"),
    ("centroid x um", "centroid y um", "um"),
)
"""Columns of centres, and the unit that their names state, if they do: the last are QuPath's."""
IDS = ("cell_id", "nucleus_id", "id", "object id", "label")
VERTICES = ("vertex_x", "vertex_y")
"""Columns of 10x's ``nucleus_boundaries`` and ``cell_boundaries``, which are in µm."""
NO_OUTLINE = "without an area"
CELLS = ("cell", "detection")
"""QuPath's objects that are cells; beside them an export of all objects has the annotations that they lie in."""
BESIDE_CELLS = "that are annotations around the cells"
AROUND_OTHERS = "that lie around others"
LARGE, N_AROUND = 50, 10
"""An outline of so many times the median area with the centres of so many others in it is no nucleus (our choice)."""


class Outlines(NamedTuple):
    """Nuclei, in the unit and the frame that they were given in."""

    geometries: Geometries
    """(n,) valid polygons and multi-polygons, or points."""
    ids: npt.NDArray[Any]
    """(n,) integers or strings, each once."""
    unit: Unit
    shape: tuple[int, int] | None = None
    """Height and width of the label image that they were drawn on, if it was one."""

    def move(self, x: float, y: float) -> Outlines:
        """Return them moved: from the corner of a slide's bounds, where QuPath counts from, to that of the image."""
        by = np.array([x, y])
        return self._replace(geometries=shapely.transform(self.geometries, lambda points: points + by))

    @property
    def centers(self) -> Float64s:
        """(n, 2) centroids."""
        centers: Float64s = shapely.get_coordinates(shapely.centroid(self.geometries))
        return centers

    @property
    def median_diameter(self) -> float:
        """Median diameter of circles of the same area; NaN for points. Nuclei have 5 to 12 µm."""
        areas = shapely.area(self.geometries)
        return float(2 * np.sqrt(np.median(areas) / np.pi)) if areas.any() else float("nan")

    @property
    def bounds(self) -> Float64s:
        """Smallest and largest coordinates: x, y, x, y."""
        bounds: Float64s = shapely.total_bounds(self.geometries)
        return bounds


def read_outlines(source: Source, unit: Unit) -> Outlines:
    """Read nuclei: their outlines, or only their centres.

    Parameters
    ----------
    source
        GeoJSON of QuPath (of its cells the nucleus, where they have one), a label image as array, TIFF or ``.npy``, a
        GeoDataFrame or GeoParquet of polygons or points, 10x's ``nucleus_boundaries.parquet`` or
        ``cell_boundaries.parquet``, or a CSV of centres (x and y, x_centroid and y_centroid, or QuPath's measurements).
    unit
        What coordinates are in: ``"px"``, pixels of the image at full resolution, or ``"um"``.

    Returns
    -------
    The nuclei, as they were given. Whether unit and frame are right is for the caller to find out.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    TypeError
        When `source` is of no kind that is known.
    ValueError
        When it cannot be read, holds no nuclei, or states another unit.

    Warns
    -----
    UserWarning
        When nuclei are left out, with numbers, reasons and classes.
    """
    check_choice(unit, "unit", ("px", "um"))
    if isinstance(source, np.ndarray):
        return _of_labels(source, "the label image", unit)
    if isinstance(source, str | Path):
        return _read_file(Path(source).expanduser(), unit)
    from geopandas import GeoDataFrame

    if isinstance(source, GeoDataFrame):
        return _of_frame(source, "the GeoDataFrame", unit)
    msg = f"Nuclei are given as a {type(source).__name__}; expected a path, a GeoDataFrame or a label image."
    raise TypeError(msg)


def _read_file(path: Path, unit: Unit) -> Outlines:
    check_is_file(path, MISSING)
    name = path.name.lower().removesuffix(".gz").removesuffix(".zip")
    if name.endswith((".geojson", ".json")):
        return _read_geojson(path, unit)
    if name.endswith((".tif", ".tiff", ".npy")):
        return _of_labels(_read_labels(path), str(path), unit)
    if name.endswith(".parquet"):
        return _read_parquet(path, unit)
    if name.endswith((".csv", ".tsv", ".txt")):
        rows = read_csv(path, "is no table of nuclei", missing=MISSING)
        return _of_rows(rows, path, unit)
    msg = f"Nuclei are given as {path}, which is of no kind that is known by its name: {EXPECTED}."
    raise ValueError(msg)


def _read_geojson(path: Path, unit: Unit) -> Outlines:
    features = read_features(path, missing=MISSING, nuclei=True)
    is_cell = np.isin(features.kinds, CELLS)
    faults = np.where(is_cell.any() & ~is_cell & (features.faults == ""), BESIDE_CELLS, features.faults)
    return _collect(features.geometries, _unique_ids(features.ids), path, unit, faults, features.classes)


def _read_labels(path: Path) -> npt.NDArray[Any]:
    with reading(path, "is no label image", missing=MISSING):
        if path.suffix.lower() == ".npy":
            labels: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            import tifffile

            labels = tifffile.imread(path)
    return labels


def _of_labels(labels: npt.NDArray[Any], source: str, unit: Unit) -> Outlines:
    labels = np.squeeze(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        msg = (
            f"{source} has the shape {labels.shape} and holds {labels.dtype}; a label image is expected as (height, "
            "width) integers, 0 for the background and a number for each nucleus."
        )
        raise ValueError(msg)
    if unit != "px":
        msg = f"{source} is a label image, whose outlines are in pixels: give them as 'px'."
        raise ValueError(msg)
    polygons, ids = outline_labels(labels, source)
    if len(ids) == 1 and labels.size > 10_000:
        warn(f"{source} holds one label only: is it a mask of all nuclei? skimage.measure.label tells them apart.")
    return _collect(polygons, ids, source, unit)._replace(shape=(labels.shape[0], labels.shape[1]))


def _read_parquet(path: Path, unit: Unit) -> Outlines:
    import geopandas as gpd
    import pyarrow.parquet as pq

    complaint = "is no table of nuclei in Parquet"
    with reading(path, complaint, missing=MISSING):
        schema = pq.read_schema(path)
        if b"geo" in (schema.metadata or {}):
            frame = gpd.read_parquet(path)
        else:
            rows = pd.read_parquet(path)
    if b"geo" in (schema.metadata or {}):
        return _of_frame(frame, str(path), unit)
    return _of_rows(rows, path, unit)


def _of_frame(frame: GeoDataFrame, source: str, unit: Unit) -> Outlines:
    geometries: Geometries = np.array(frame.geometry.to_numpy(), dtype=object)
    places, owner = shapely.get_coordinates(geometries, return_index=True)
    is_placed = np.bincount(owner, ~np.isfinite(places).all(axis=1), minlength=len(geometries)) == 0
    geometries[~is_placed] = None
    is_point = (shapely.get_type_id(geometries) == shapely.GeometryType.POINT) & ~shapely.is_empty(geometries)
    if "radius" in frame:  # spatialdata's circles
        geometries[is_point] = shapely.buffer(
            geometries[is_point], frame["radius"].to_numpy(np.float64)[is_point], quad_segs=4
        )
        is_point[:] = False
    outlines = geometries.copy()
    outlines[is_point] = None
    mended = mend(outlines)
    mended[is_point] = geometries[is_point]
    faults = np.where(shapely.is_missing(mended), np.where(is_placed, NO_OUTLINE, NO_COORDINATES), "").astype(object)
    return _collect(mended, frame.index.to_numpy(), source, unit, faults)


def _of_rows(rows: pd.DataFrame, path: Path, unit: Unit) -> Outlines:
    """Read centres, one a row, or vertices."""
    by_name = {str(name).strip().lower(): name for name in rows.columns}
    if set(VERTICES) <= set(by_name):
        return _of_vertices(rows.rename(columns=lambda name: str(name).strip().lower()), path, unit)
    for x, y, stated in CENTERS:
        if not {x, y} <= set(by_name):
            continue
        if stated not in (None, unit):
            msg = f"{path} has its centres in {by_name[x]!r}: give them as {stated!r}, not {unit!r}."
            raise ValueError(msg)
        columns = rows[[by_name[x], by_name[y]]].apply(_to_numbers).to_numpy(np.float64)
        finite = np.isfinite(columns).all(axis=1)
        points = np.full(len(rows), None, dtype=object)
        points[finite] = shapely.points(columns[finite])
        named = next((by_name[name] for name in IDS if name in by_name), None)
        ids = np.arange(1, len(rows) + 1) if named is None else rows[named].to_numpy()
        return _collect(points, ids, path, unit, np.where(finite, "", NO_COORDINATES).astype(object))
    msg = (
        f"{path} has the columns {list(rows.columns)}; expected centres (x and y, x_centroid and y_centroid, or "
        f"QuPath's 'Centroid X px' and 'Centroid Y px') or 10x's vertices (cell_id, {', '.join(VERTICES)})."
    )
    raise ValueError(msg)


def _to_numbers(column: pd.Series) -> pd.Series:
    """Read numbers, also those with a comma for decimals."""
    if column.dtype.kind in "fiu":
        return column
    return pd.to_numeric(column.map(str).str.replace(",", "."), errors="coerce")  # bytes are no numbers, either


def _of_vertices(rows: pd.DataFrame, path: Path, unit: Unit) -> Outlines:
    """Read 10x's vertices: one a row, those of a nucleus one after the other."""
    if unit != "um":
        msg = f"{path} is 10x's table of vertices, which is in µm of the Xenium slide: give it as 'um'."
        raise ValueError(msg)
    named = next((name for name in ("label_id", "cell_id") if name in rows), None)  # a cell may have several nuclei
    if named is None:
        msg = f"{path} has the columns {list(rows.columns)}; expected cell_id or label_id beside the vertices."
        raise ValueError(msg)
    codes, known = pd.factorize(rows[named])
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])[: len(rows)]
    if len(starts) != len(known):  # vertices of one nucleus in several places: brought together, in their order
        order = np.argsort(codes, kind="stable")
        rows, codes = rows.iloc[order], codes[order]
        starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    sizes = np.diff(np.r_[starts, len(rows)])
    polygons = build_polygons(rows[list(VERTICES)].to_numpy(np.float64), sizes, np.arange(len(starts)), len(starts))
    ids = rows["cell_id"].to_numpy()[starts] if "cell_id" in rows else np.asarray(known)
    if len(set(ids)) < len(ids):
        ids = rows[named].to_numpy()[starts]
    return _collect(mend(polygons), ids, path, unit)


def _collect(
    geometries: Geometries,
    ids: npt.NDArray[Any],
    source: str | Path,
    unit: Unit,
    faults: npt.NDArray[np.object_] | None = None,
    classes: npt.NDArray[np.object_] | None = None,
) -> Outlines:
    """Leave out what is no nucleus, and check that something remains, each under an id of its own."""
    if faults is None:
        faults = np.where(shapely.is_missing(geometries), NO_OUTLINE, "").astype(object)
    polygonal = is_polygonal(geometries)
    if polygonal.any():  # outlines and single points: the points are something else
        faults[(faults == "") & ~polygonal] = "that are no polygons but Point"
        faults[_around_others(geometries, faults == "")] = AROUND_OTHERS
    kept = faults == ""
    if not kept.any():
        why = f": there are {len(kept)} {', '.join(sorted(set(faults)))}" if len(kept) else ""
        msg = f"{source} {NO_NUCLEI}{why}. Polygons or points are expected, one a nucleus."
        raise ValueError(msg)
    warn_of_dropped(source, faults, np.full(len(kept), "", dtype=object) if classes is None else classes, kept)
    ids = _plain(ids[kept])
    n_repeated = len(ids) - len(pd.unique(ids))
    if n_repeated:
        warn(f"{n_repeated} of {len(ids)} nuclei of {source} have the id of another one: they are numbered instead.")
        ids = np.arange(1, len(ids) + 1)
    return Outlines(geometries[kept], ids, unit)


def _around_others(geometries: Geometries, kept: Mask) -> Mask:
    """Find outlines of tissue and regions, which QuPath and others write beside those of nuclei."""
    areas = np.where(kept, shapely.area(geometries), np.nan)
    large: Mask = areas > LARGE * np.nanmedian(areas) if kept.any() else kept
    rows = np.flatnonzero(large)
    centers = shapely.STRtree(shapely.centroid(geometries[kept & ~large]))
    around, _ = centers.query(geometries[rows], predicate="contains")
    large[rows] = np.bincount(around, minlength=len(rows)) >= N_AROUND
    return large


def _unique_ids(ids: list[str | None]) -> npt.NDArray[Any]:
    """Return the ids of features where all have one, else their numbers."""
    return np.arange(1, len(ids) + 1) if None in ids else np.array(ids, dtype=object)


def _plain(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ids as integers or strings; some files of 10x have bytes."""
    if ids.dtype.kind in "iu":
        return ids.astype(np.int64)
    text = pd.Series(ids, dtype=object)
    is_bytes = len(text) > 0 and isinstance(text.iloc[0], bytes)
    return (text.str.decode("utf-8") if is_bytes else text.astype(str)).to_numpy(dtype=object)
