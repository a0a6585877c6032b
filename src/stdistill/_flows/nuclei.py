"""The nuclei of a slide, from its file to SpatialData and GeoJSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from stdistill import pp
from stdistill._formats.qupath import Block, write_objects
from stdistill._runs.folder import Run
from stdistill._table import schema
from stdistill._table.he.outlines import cell_outlines
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.he.stored import write_without_images

if TYPE_CHECKING:
    from spatialdata import SpatialData

ZARR, GEOJSON, TILES = "nuclei.zarr", "nuclei.geojson.gz", "tiles"
MEASURES = ("area_um2", "eccentricity", "solidity", "haematoxylin")
BLOCK = 20_000
"""Nuclei that are in memory as text at once."""


def find_nuclei(run: Run, slide: SpatialData, **options: Any) -> None:
    """Find the tissue of a slide and the nuclei in it, or take given ones; it goes on from finished tiles.

    Parameters
    ----------
    run
        The run.
    slide
        The slide, as `stdistill.pp.read_slide` returns it; it gets the nuclei.
    options
        Of `stdistill.pp.detect_nuclei`.
    """
    record = read_slide_record(slide)
    if record is not None:
        run.check_input({"image": record.digest})
    is_given = options.get("nuclei") is not None
    if not is_given:
        run.step(schema.TISSUE, lambda: pp.find_tissue(slide))
    store = None if run.kept is None or is_given else run.kept / TILES
    run.step(schema.NUCLEI, lambda: pp.detect_nuclei(slide, store=store, **options))


def write_nuclei(run: Run, slide: SpatialData) -> None:
    """Write the nuclei of a slide to the folder of a run, as SpatialData and for QuPath."""
    if run.folder is not None:
        folder = run.folder
        run.step(ZARR, lambda: write_without_images(slide, folder / ZARR))
        run.step(GEOJSON, lambda: _write_geojson(slide, folder / GEOJSON))


def _write_geojson(slide: SpatialData, path: Path) -> None:
    """Write the nuclei as QuPath's detections, whose pixels count from the corner of the slide's bounds."""
    write_objects(path, _blocks(slide), [], "detection")


def _blocks(slide: SpatialData) -> Iterator[Block]:
    table = slide.tables[schema.TABLE]
    record = read_slide_record(table)
    corner = np.array((0, 0) if record is None or record.bounds is None else record.bounds[:2])
    outlines = cell_outlines(slide, image_key=schema.HE_IMAGE, table_key=schema.TABLE)
    for rows, polygons in outlines.blocks(BLOCK):
        measures = {name: table.obs[name].to_numpy(np.float64)[rows] for name in MEASURES}
        moved = shapely.transform(polygons, lambda points: points - corner)
        yield Block(moved, np.full(len(rows), -1), None, measures)
