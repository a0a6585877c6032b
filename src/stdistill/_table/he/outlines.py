"""The outlines of the cells of a slide, in pixels of its H&E."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stdistill._slide.affine import apply_affine
from stdistill._support.arrays import Floats, Rows
from stdistill._table.checks import get_table, is_spatialdata
from stdistill._table.he.placement import HEFrame, he_frames

if TYPE_CHECKING:
    from spatialdata import SpatialData

QUARTER_SEGMENTS = 4
"""A circle becomes a polygon of four times as many vertices."""


@dataclass(frozen=True)
class CellOutlines:
    """Where the shapes of the cells of one slide are, and what brings them to pixels."""

    frame: HEFrame
    """Of the H&E; its `cells` are the rows of the table."""
    region: str
    """Name of the shapes."""
    shapes: Any
    """The shapes (GeoDataFrame): polygons, or points with a radius, in their own coordinates."""
    positions: Rows
    """Positions of the cells in the shapes."""

    def blocks(self, size: int) -> Iterator[tuple[Rows, npt.NDArray[np.object_]]]:
        """Yield the rows of the table and the polygons in pixels, some cells at a time."""
        for start in range(0, len(self.positions), size):
            which = np.arange(start, min(start + size, len(self.positions)))
            yield self.frame.cells[which], self.polygons(which)

    def polygons(self, which: Rows) -> npt.NDArray[np.object_]:
        """Return polygons in pixels, of some of the cells by their number in the frame."""
        import shapely

        matrix: Floats = np.asarray(self.frame.element_to_px)
        part = self.shapes.iloc[self.positions[which]]
        geometries = part.geometry.to_numpy()
        if "radius" in part:
            geometries = shapely.buffer(geometries, part["radius"].to_numpy(), quad_segs=QUARTER_SEGMENTS)
        moved: npt.NDArray[np.object_] = shapely.transform(geometries, lambda points: apply_affine(matrix, points))
        return moved


def cell_outlines(
    data: SpatialData, *, image_key: str, coordinate_system: str | None = None, table_key: str
) -> CellOutlines:
    """Find the shapes that the table annotates, of the one slide that it is of.

    Raises
    ------
    KeyError
        When the table, the image or the annotated element is not there.
    TypeError
        When `data` is no SpatialData.
    ValueError
        When the table annotates labels or several elements, or it is not known where the cells lie on the H&E.
    """
    table = get_table(data, table_key)
    if not is_spatialdata(data):
        msg = (
            "An AnnData holds no outlines of its cells: give the SpatialData, with the shapes that its table annotates."
        )
        raise TypeError(msg)
    frames = he_frames(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    if len(frames) != 1:
        names = [frame.region for frame in frames]
        msg = (
            f"The table annotates {names}: one file holds the cells of one image. Give the slides one by one, cut out "
            "with spatialdata.subset_sdata_by_table_mask."
        )
        raise ValueError(msg)
    (frame,) = frames
    region = str(frame.region)
    if region not in data.shapes:
        known = sorted(data.shapes)
        msg = (
            f"The table annotates the labels {region!r}, and outlines are taken from shapes (there is: "
            f"{', '.join(map(repr, known)) or 'none'}). Make some with spatialdata.to_polygons(sdata[{region!r}]), and "
            "link the table to them with sdata.set_table_annotates_spatialelement."
        )
        raise ValueError(msg)
    from spatialdata.models import get_table_keys

    instances = table.obs[get_table_keys(table)[2]].to_numpy()[frame.cells]
    shapes = data.shapes[region]
    return CellOutlines(frame, region, shapes, shapes.index.get_indexer(instances))
