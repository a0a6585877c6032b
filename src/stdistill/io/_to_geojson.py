"""Niches for QuPath, as GeoJSON."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stdistill._drawing.colors import category_colors
from stdistill._measures.labels import Labels
from stdistill._slide.affine import apply_affine
from stdistill._support.arrays import Floats
from stdistill._support.checks import check_key
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import get_centers, get_table
from stdistill._table.he.outlines import CellOutlines, cell_outlines
from stdistill._table.he.placement import HEFrame, he_frames
from stdistill._table.he.placement_checks import record_of_larger
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.labels import NICHE_SUFFIX, read_labels

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stdistill._formats.qupath import Block

logger = logging.getLogger("stdistill")

BLOCK_CELLS = 20_000
"""Cells that are in memory as text at once."""
OF_A_NICHE = ("confidence", "ood")
"""What is known of a niche in columns of its prefix."""


def to_geojson(
    data: AnnData | SpatialData,
    path: str | Path,
    *,
    key: str,
    as_regions: bool = False,
    in_bounds: bool = False,
    measurements: Sequence[str] | None = None,
    image_key: str = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    table_key: str = schema.TABLE,
) -> Path:
    """Write niches, or any groups of cells, as objects that QuPath opens on the H&E.

    In QuPath open the image and drop the file onto it (*File › Import objects*). Groups become classes, in the colours
    that they have in the table. The file is written block by block, so that millions of cells take little memory.

    Parameters
    ----------
    data
        SpatialData with an H&E, whose table annotates the shapes of the cells. For regions a table is enough, if it was
        read with an H&E.
    path
        The file: ``.geojson`` or ``.json``, compressed with ``.gz`` behind it. What this function wrote before is
        written anew.
    key
        Categorical column of ``.obs`` with the groups, such as ``"student_niche"``.
    as_regions
        Whether to write one annotation a group, the region that its cells cover, instead of every cell.
    in_bounds
        Whether pixels count from the corner of the slide's bounds, as QuPath counts them on an image that was opened
        through OpenSlide and has some (MRXS, SCN). It changes nothing for a slide without bounds.
    measurements
        Columns of ``.obs`` with numbers that the cells get as measurements. By default the confidence and how unusual
        the cell is (``student_confidence`` and ``student_ood`` for ``"student_niche"``), where they are there.
    image_key
        Name of the H&E.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    The file's path.

    Raises
    ------
    FileExistsError
        When there is a file that this function did not write, such as annotations of QuPath.
    KeyError
        When the table, the image, the annotated element or a column is not there.
    TypeError
        When `key` or a column of `measurements` is of the wrong type, or an AnnData is given and no regions are wanted.
    ValueError
        When `path` has another ending, all cells lack a group, groups have names that QuPath does not tell apart, the
        table annotates labels or several slides, or it is not known where the cells lie on the H&E.

    Warns
    -----
    UserWarning
        When the image is not the whole one that was read, such as after ``spatialdata.bounding_box_query``: pixels
        count from its own corner.

    Notes
    -----
    Objects are QuPath's: ``objectType`` (``"cell"``, ``"detection"`` where the annotated shapes are nuclei by their
    name, ``"annotation"`` for regions), ``classification`` with name and colour, ``color``, ``name`` (of the cell, as
    in the table's index) and ``measurements``, as QuPath 0.4 and later read them. Coordinates are pixels of the H&E at
    full resolution, rounded to 0.01. Circles become polygons of 16 vertices. A cell without a group is written without
    a class, a number that is missing is left out. ``": "`` in the name of a group, which would make two classes of it,
    becomes ``" - "``.

    Regions (our choice): a place belongs to the group of the nearest cell, if one is within 20 µm, on a raster of
    2.5 µm (coarser on slides of more than 3 cm²); around cells without a group there is none.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=500))
    >>> sd.io.to_geojson(sdata, "cell_types.geojson.gz", key="cell_type").name
    'cell_types.geojson.gz'
    """
    from matplotlib.colors import to_rgb

    from stdistill._formats.qupath import check_suffix, object_classes, write_objects

    path = Path(path).expanduser()
    check_suffix(path)
    table = get_table(data, table_key)
    labels = read_labels(table, key, "key")
    numbers = _numbers(table, key, measurements)
    colors = category_colors(table, key, labels.names, None, {})
    classes = object_classes(labels.names, [to_rgb(color) for color in colors])
    shift = _bounds(data, table, image_key) if in_bounds else np.zeros(2)
    if as_regions:
        block = _regions(
            data, labels, shift, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key
        )
        n_written = write_objects(path, [block], classes, "annotation")
        logger.info("Wrote %d regions of %r to %s.", n_written, key, path)
        return path
    outlines = cell_outlines(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    _warn_of_another_frame(table, outlines.frame)
    kind = "detection" if "nucle" in outlines.region.lower() else "cell"
    n_written = write_objects(path, _cells(outlines, table.obs_names, labels, numbers, shift), classes, kind)
    logger.info("Wrote %d cells with %r to %s.", n_written, key, path)
    return path


def _cells(
    outlines: CellOutlines, names: pd.Index, labels: Labels, numbers: pd.DataFrame, shift: Floats
) -> Iterator[Block]:
    """Yield the cells, some at a time."""
    import shapely

    from stdistill._formats.qupath import Block

    for rows, polygons in outlines.blocks(BLOCK_CELLS):
        moved = shapely.transform(polygons, lambda points: points - shift) if shift.any() else polygons
        columns = {str(name): column.to_numpy()[rows] for name, column in numbers.items()}
        yield Block(moved, labels.codes[rows], names[rows].to_numpy(), columns)


def _regions(
    data: AnnData | SpatialData,
    labels: Labels,
    shift: Floats,
    *,
    image_key: str,
    coordinate_system: str | None,
    table_key: str,
) -> Block:
    """Merge the cells of each group to one region, in pixels."""
    import shapely

    from stdistill._formats.qupath import Block
    from stdistill._formats.regions import merge_cells

    frames = he_frames(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    if len(frames) != 1:
        msg = f"The table annotates {[frame.region for frame in frames]}; one file holds the regions of one image."
        raise ValueError(msg)
    (frame,) = frames
    _warn_of_another_frame(get_table(data, table_key), frame)
    codes = labels.codes[frame.cells]
    merged = merge_cells(get_centers(get_table(data, table_key))[frame.cells], codes, len(labels.names))
    there = np.flatnonzero(~shapely.is_missing(merged))
    polygons = shapely.transform(merged[there], lambda um: apply_affine(frame.um_to_px, um) - shift)
    sizes = np.bincount(codes[codes >= 0], minlength=len(labels.names))[there].astype(np.float64)
    return Block(polygons, there, None, {"Num cells": sizes})


def _warn_of_another_frame(table: AnnData, frame: HEFrame) -> None:
    """Warn when the image is not the file that was read, such as a part of it: pixels count from another corner."""
    record = record_of_larger(table, frame)
    if record is None or record.um_to_px is None or record.shape is None:
        return
    (x, y), (height, width) = apply_affine(record.um_to_px, frame.to_um(np.zeros((1, 2))))[0], record.shape
    warn(
        f"{frame.image_key!r} is not the whole image that was read: it has {frame.shape[1]} × {frame.shape[0]} px of "
        f"{width} × {height}, and its corner lies at ({x:.0f}, {y:.0f}). What is written counts from that corner, and "
        "is out of place on the file of the slide: open this part in QuPath, or write from the whole SpatialData."
    )


def _numbers(table: AnnData, key: str, measurements: Sequence[str] | None) -> pd.DataFrame:
    """Return the columns to be written as measurements."""
    if measurements is None:
        prefix = key.removesuffix(NICHE_SUFFIX)
        named = [f"{prefix}_{each}" for each in OF_A_NICHE] if key.endswith(NICHE_SUFFIX) else []
        measurements = [name for name in named if name in table.obs]
    elif isinstance(measurements, str):
        measurements = [measurements]
    for name in measurements:
        check_key(name, table.obs.columns, "a column of .obs", argument="measurements")
        if not pd.api.types.is_numeric_dtype(table.obs[name]):
            msg = f".obs[{name!r}] (measurements) holds {table.obs[name].dtype}; expected numbers."
            raise TypeError(msg)
    numbers: pd.DataFrame = table.obs[list(measurements)].astype(np.float64)
    return numbers


def _bounds(data: AnnData | SpatialData, table: AnnData, image_key: str) -> Floats:
    """Return the corner (x, y) of the slide's bounds, in pixels; the image's own corner where it has none."""
    records = [read_slide_record(table), read_slide_record(data)]
    for record in records:
        if record is not None and record.bounds is not None and record.image_key in (None, image_key):
            return np.asarray(record.bounds, dtype=np.float64)[:2]
    return np.zeros(2)
