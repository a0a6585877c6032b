"""What a run's folder holds of a slide, read for its report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import h5py
import numpy as np
import numpy.typing as npt
from anndata import AnnData

from stdistill._drawing.view import CELL_UM
from stdistill._runs.folder import CELLS_FILE, MANIFEST, NICHES_FILE
from stdistill._runs.folder import read_manifest as read_run_manifest
from stdistill._slide.affine import affine_scale, apply_affine
from stdistill._slide.pyramid import SlideLevel
from stdistill._support.arrays import Floats, Rows
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import get_centers
from stdistill._table.he.images import slide_levels
from stdistill._table.he.outlines import cell_outlines
from stdistill._table.he.placement import HEFrame, map_to_pixels
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.labels import NICHE_SUFFIX
from stdistill.pp import attach_slide

if TYPE_CHECKING:
    from spatialdata import SpatialData

TABLES = (NICHES_FILE, CELLS_FILE)
"""What `predict` and `evaluate`, and what `run` calls its table."""
SHAPES = "niches.zarr"
CIRCLE_SEGMENTS = 2
"""A cell of which only the centre is known becomes a polygon of four times as many vertices."""
BARE_MPP = 0.5
"""µm per pixel of a slide whose H&E is not known."""
MARGIN_UM = 50.0
"""Around the cells of such a slide."""


@dataclass(frozen=True)
class Outlines:
    """The cells of a slide that lie on it, as polygons in pixels of its full resolution."""

    cells: Rows
    """Rows of the table."""
    polygons: Callable[[Rows], npt.NDArray[np.object_]]
    """Returns the polygons of some of them, by their number among `cells`."""


@dataclass(frozen=True)
class Slide:
    """A slide's results and, where it is still there, its H&E."""

    folder: Path
    manifest: dict[str, Any]
    cells: AnnData
    """The table, without features and counts."""
    data: SpatialData
    frame: HEFrame
    """Where the cells lie; pixels are those of the H&E, or would be."""
    levels: list[SlideLevel]
    """Of the H&E; none where it cannot be read."""
    no_image: str
    """Why it cannot be read; empty where it can."""
    outlines: Outlines
    tissue: npt.NDArray[np.object_] | None
    """Polygons in pixels, where tissue was looked for."""

    @property
    def name(self) -> str:
        """What was mapped, by the name of its file."""
        asked = self.manifest.get("asked", {})
        return Path(str(asked.get("data") or asked.get("bundle") or self.folder)).name

    @property
    def pixels(self) -> Floats:
        """Where the centres of `outlines.cells` lie."""
        return self.frame.to_px(get_centers(self.cells)[self.outlines.cells])


def read_slide(folder: Path, he_image: Path | None = None) -> Slide:
    """Read what a command wrote of a slide, and attach its H&E.

    Parameters
    ----------
    folder
        Of ``stdistill predict``, ``run`` or ``evaluate``.
    he_image
        Where the H&E is now, by default where it was.

    Raises
    ------
    FileNotFoundError
        When there is no such run, or `he_image` is not there.
    """
    manifest = read_manifest(folder)
    data, cells = _read_cells(folder)
    no_image = _attach(data, cells, he_image)
    frame = _frame(data, cells)
    levels = [] if no_image else slide_levels(data.images[frame.image_key], frame.image_key)
    return Slide(
        folder,
        manifest,
        cells,
        data,
        frame,
        levels,
        no_image,
        _outlines(data, cells, frame),
        _tissue(data, frame),
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what was run, and raise unless there is a table of it."""
    missing = [] if (folder / MANIFEST).is_file() else [MANIFEST]
    if not (folder / SHAPES).is_dir() and not any((folder / name).is_file() for name in TABLES):
        missing.append(" or ".join(TABLES))
    if missing:
        there = f"has no {' and no '.join(missing)}" if folder.is_dir() else "is not there"
        msg = (
            f"{folder} {there}. Expected the folder of a finished `stdistill predict`, `run` or `evaluate`, or of a "
            "cohort."
        )
        raise FileNotFoundError(msg)
    return read_run_manifest(folder / MANIFEST)


def _read_cells(folder: Path) -> tuple[SpatialData, AnnData]:
    """Read the table, and the outlines where there are some; features and counts stay on disk."""
    import spatialdata

    if (folder / SHAPES).is_dir():
        data = spatialdata.read_zarr(folder / SHAPES)
        if (folder / TABLES[0]).is_file():  # the same table, and what sd.tl.cohort reads: a user may have edited it
            cells = _read_table(folder / TABLES[0])
            _warn_of_others(data.tables.pop(schema.TABLE), cells)
            data.tables[schema.TABLE] = cells
        return data, data.tables[schema.TABLE]
    cells = _read_table(next(folder / name for name in TABLES if (folder / name).is_file()))
    cells.uns.pop("spatialdata_attrs", None)  # what it annotates stayed in the bundle
    return spatialdata.SpatialData(tables={schema.TABLE: cells}), cells


def _read_table(path: Path) -> AnnData:
    with h5py.File(path) as file:
        return AnnData(
            obs=ad.io.read_elem(file["obs"]),
            obsm={schema.SPATIAL: ad.io.read_elem(file["obsm"][schema.SPATIAL])},
            uns=ad.io.read_elem(file["uns"]),
        )


def _warn_of_others(beside: AnnData, cells: AnnData) -> None:
    """Warn when the table beside the outlines has other niches: one of the two was edited."""
    both = [key for key in cells.obs if str(key).endswith(NICHE_SUFFIX) and key in beside.obs]
    differ = [key for key in both if not cells.obs[key].astype(str).equals(beside.obs[key].astype(str))]
    if differ:
        warn(
            f"{', '.join(differ)} in {TABLES[0]} are others than in {SHAPES}, which were written alike. Those of "
            f"{TABLES[0]} are shown, which sd.tl.cohort reads, too."
        )


def _attach(data: SpatialData, cells: AnnData, he_image: Path | None) -> str:
    """Attach the H&E, or say why it cannot be."""
    record = read_slide_record(cells) or read_slide_record(data)
    if record is None or record.um_to_px is None:
        if he_image is not None:
            msg = f"The table does not say where its cells lie on an H&E, so {he_image} cannot be shown under them."
            raise ValueError(msg)
        return "The table does not say where its cells lie on an H&E."
    try:
        attach_slide(data, he_image)
    except (OSError, ValueError, ImportError) as error:
        if he_image is not None:
            raise
        return str(error)
    return ""


def _frame(data: SpatialData, cells: AnnData) -> HEFrame:
    """Say where the cells lie on the H&E; without one, on an image that just holds them."""
    rows = np.arange(cells.n_obs)
    record = read_slide_record(cells) or read_slide_record(data)
    if record is not None and record.um_to_px is not None and record.shape is not None:
        key = record.image_key or schema.HE_IMAGE
        return HEFrame(key, rows, np.asarray(record.um_to_px), record.shape)
    centers = get_centers(cells)
    low, high = centers.min(axis=0) - MARGIN_UM, centers.max(axis=0) + MARGIN_UM
    um_to_px = np.diag([1 / BARE_MPP, 1 / BARE_MPP, 1.0])
    um_to_px[:2, 2] = -low / BARE_MPP
    width, height = np.ceil((high - low) / BARE_MPP).astype(int).tolist()
    return HEFrame(schema.HE_IMAGE, rows, um_to_px, (height, width))


def _outlines(data: SpatialData, cells: AnnData, frame: HEFrame) -> Outlines:
    """Take the shapes that the table annotates, else discs around the centres."""
    if frame.image_key in data.images and "spatialdata_attrs" in cells.uns:
        known = cell_outlines(data, image_key=frame.image_key, table_key=schema.TABLE)
        return Outlines(known.frame.cells, known.polygons)
    import shapely

    px = frame.to_px(get_centers(cells))
    there = np.flatnonzero(frame.contains(px))
    radius = CELL_UM / 2 * affine_scale(frame.um_to_px)
    return Outlines(
        there, lambda which: shapely.buffer(shapely.points(px[there[which]]), radius, quad_segs=CIRCLE_SEGMENTS)
    )


def _tissue(data: SpatialData, frame: HEFrame) -> npt.NDArray[np.object_] | None:
    if schema.TISSUE not in data.shapes:
        return None
    import shapely

    shapes = data.shapes[schema.TISSUE]
    matrix = frame.um_to_px
    if frame.image_key in data.images:
        names = (schema.TISSUE, frame.image_key)
        matrix = next(iter(map_to_pixels(shapes, data.images[frame.image_key], None, names=names).values()))
    moved: npt.NDArray[np.object_] = shapely.transform(
        shapes.geometry.to_numpy(), lambda points: apply_affine(matrix, points)
    )
    return moved
