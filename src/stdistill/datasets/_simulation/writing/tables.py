"""Cells as tables: identifiers, measurements, boundaries, groups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stdistill._support.arrays import Float64s
from stdistill.datasets._simulation.biology.expression import CONTROLS, GENE_EXPRESSION
from stdistill.datasets._simulation.painting.frames import PIXEL_SIZE_UM
from stdistill.datasets._simulation.tissue.cells import N_ANGLES, Outlines
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.writing.layout import Layout

_COLORS = (
    "#1F77B4 #FF7F0E #2CA02C #D62728 #9467BD #8C564B #E377C2 #7F7F7F #BCBD22 #17BECF #AEC7E8 #FFBB78 #98DF8A "
    "#FF9896 #C5B0D5 #C49C94 #F7B6D2 #C7C7C7 #DBDB8D #9EDAE5 #393B79 #637939"
)
COLORS = tuple(_COLORS.split())
"""Of the cell types, in the order of their codes."""
_UNLABELLED_SHARE = 0.01
"""Of the cells, those that the annotation of cell types leaves out."""
_BLOCK = 100_000
"""Polygons that are written at once."""


@dataclass(frozen=True)
class Measured:
    """A section as the instrument reports it: every cell has an identifier and numbers."""

    section: Section
    layout: Layout
    cell_id_prefix: npt.NDArray[np.uint32]
    """Ascending, the number behind the string identifiers."""

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of the morphology image and the label images."""
        tissue = self.section.tissue
        return int(np.ceil(tissue.height_um / PIXEL_SIZE_UM)), int(np.ceil(tissue.width_um / PIXEL_SIZE_UM))

    @cached_property
    def cell_id(self) -> npt.NDArray[Any]:
        """Identifiers as in all tables: 1, 2, … in the oldest layout, else strings such as ``aaaaficg-1``."""
        if not self.layout.string_ids:
            return np.arange(1, len(self.cell_id_prefix) + 1, dtype=np.int32)
        # Hexadecimal digits, written with the letters a to p.
        digits = (self.cell_id_prefix[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15
        letters = (digits + ord("a")).astype(np.uint8)
        suffix = np.tile(np.frombuffer(b"-1", np.uint8), (len(letters), 1))
        return np.hstack([letters, suffix]).view("S10").ravel().astype("U10")

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Centroids (µm) and areas (µm²), as in ``cell_summary`` of ``cells.zarr.zip``."""
        cells, nuclei = self.section.cells, self.section.cells.nuclei
        x, y, area = polygon_centroids(cells.x, cells.y, cells.outline)
        nucleus_x, nucleus_y, nucleus_area = polygon_centroids(nuclei.x, nuclei.y, nuclei.outline)
        n = len(cells)
        total = np.bincount(nuclei.cell, nucleus_area, n)
        missing = np.where(total > 0, total, np.nan)
        columns = {
            "cell_centroid_x": x,
            "cell_centroid_y": y,
            "cell_area": area,
            "nucleus_centroid_x": np.bincount(nuclei.cell, nucleus_x * nucleus_area, n) / missing,
            "nucleus_centroid_y": np.bincount(nuclei.cell, nucleus_y * nucleus_area, n) / missing,
            "nucleus_area": missing,
            "z_level": np.zeros(n),
        }
        if self.layout.has_polygon_sets:
            columns["nucleus_count"] = cells.n_nuclei.astype(float)
        return pd.DataFrame(columns)


def polygon_centroids(x: Float64s, y: Float64s, outline: Outlines) -> tuple[Float64s, Float64s, Float64s]:
    """Return the centroids and areas of the polygons through the radii of outlines."""
    theta = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
    dx, dy = outline * np.cos(theta), outline * np.sin(theta)
    next_x, next_y = np.roll(dx, -1, axis=1), np.roll(dy, -1, axis=1)
    cross = dx * next_y - next_x * dy
    double = cross.sum(axis=1)
    cx = ((dx + next_x) * cross).sum(axis=1) / (3 * double)
    cy = ((dy + next_y) * cross).sum(axis=1) / (3 * double)
    # A centroid may fall out of a bent cell, the centre of a star-shaped outline never does.
    turn = np.floor(np.arctan2(cy, cx) / theta[1]).astype(int) % N_ANGLES
    radii = np.take_along_axis(outline, np.stack([turn, (turn + 1) % N_ANGLES], axis=1), axis=1)
    inside = np.hypot(cx, cy) < 0.9 * radii.min(axis=1)
    return x + np.where(inside, cx, 0), y + np.where(inside, cy, 0), double / 2


def vertices(x: Float64s, y: Float64s, outline: Outlines, n_vertices: int = N_ANGLES) -> npt.NDArray[np.float32]:
    """Return closed polygons: outline by vertex by (x, y), the last vertex is the first again."""
    angles = np.arange(n_vertices + 1) % n_vertices * (N_ANGLES // n_vertices)
    theta = angles * (2 * np.pi / N_ANGLES)
    radii = outline[:, angles]
    return np.stack([x[:, None] + radii * np.cos(theta), y[:, None] + radii * np.sin(theta)], axis=2).astype(np.float32)


def write_boundaries(folder: Path, measured: Measured) -> None:
    """Write the polygons of cells and nuclei."""
    cells, nuclei = measured.section.cells, measured.section.cells.nuclei
    everyone = np.arange(len(cells))
    _write_polygons(folder / "cell_boundaries.parquet", measured, everyone, cells.x, cells.y, cells.outline)
    _write_polygons(folder / "nucleus_boundaries.parquet", measured, nuclei.cell, nuclei.x, nuclei.y, nuclei.outline)


def _write_polygons(
    path: Path,
    measured: Measured,
    owner: npt.NDArray[np.int64],
    x: Float64s,
    y: Float64s,
    outline: Outlines,
) -> None:
    """Write polygons as one row a vertex, block by block."""
    layout = measured.layout
    writer = None
    for start in range(0, len(owner), _BLOCK):
        part = slice(start, start + _BLOCK)
        polygons = vertices(x[part], y[part], outline[part], layout.n_vertices)
        per_polygon = polygons.shape[1]
        columns = {
            "cell_id": np.repeat(measured.cell_id[owner[part]], per_polygon),
            "vertex_x": polygons[..., 0].ravel(),
            "vertex_y": polygons[..., 1].ravel(),
        }
        if layout.has_polygon_sets:
            label = np.arange(start + 1, start + len(polygons) + 1, dtype=np.int32)
            columns["label_id"] = np.repeat(label, per_polygon)
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def write_cells(folder: Path, measured: Measured, counts: dict[str, npt.NDArray[np.int64]]) -> None:
    """Write ``cells.parquet`` and ``cells.csv.gz``; ``counts`` has molecules a cell by feature type."""
    summary = measured.summary
    controls = {kind: f"{kind.removeprefix('Negative ').lower().replace(' ', '_')}_counts" for kind in CONTROLS}
    frame = pd.DataFrame(
        {
            "cell_id": measured.cell_id,
            "x_centroid": summary["cell_centroid_x"],
            "y_centroid": summary["cell_centroid_y"],
            "transcript_counts": counts[GENE_EXPRESSION],
            **{column: counts[kind] for kind, column in controls.items()},
            "total_counts": sum(counts.values()),
            "cell_area": summary["cell_area"],
            "nucleus_area": summary["nucleus_area"],
        }
    )
    if measured.layout.has_polygon_sets:
        frame["nucleus_count"] = measured.section.cells.n_nuclei.astype(np.int32)
        frame["segmentation_method"] = "Segmented by nucleus expansion of 5.0µm"
    frame.to_parquet(folder / "cells.parquet", index=False)
    frame.to_csv(folder / "cells.csv.gz", index=False, float_format="%.6f")


def write_cell_groups(path: Path, rng: np.random.Generator, measured: Measured) -> None:
    """Write the annotation of cell types, which as in real ones leaves out some cells."""
    section = measured.section
    labelled = rng.random(len(section.cells)) >= _UNLABELLED_SHARE
    code = section.cells.cell_type[labelled]
    names, colors = np.array(section.cell_types.names), np.array(COLORS)
    pd.DataFrame({"cell_id": measured.cell_id[labelled], "group": names[code], "color": colors[code]}).to_csv(
        path, index=False
    )


def write_truth(path: Path, measured: Measured) -> None:
    """Write what was simulated: niche and type of every cell."""
    section = measured.section
    pd.DataFrame(
        {
            "cell_id": measured.cell_id,
            "niche": np.array(section.niches.names)[section.cells.niche],
            "cell_type": np.array(section.cell_types.names)[section.cells.cell_type],
        }
    ).to_parquet(path, index=False)
