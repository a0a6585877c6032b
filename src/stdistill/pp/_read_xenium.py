"""Xenium slides with their H&E, from disk to SpatialData."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from stdistill._formats.alignment import Alignment
from stdistill._formats.cell_groups import CellGroups, find_cell_groups, read_cell_groups
from stdistill._formats.he_image import PlacedHE, find_he, place_he
from stdistill._formats.xenium import (
    XeniumBundle,
    check_tables,
    find_masks_fault,
    open_bundle,
    read_cells,
    read_matrix,
)
from stdistill._support.reading import UNREADABLE
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.he.slide_record import SlideRecord, write_slide_record
from stdistill._table.labels import warn_of_names
from stdistill._table.records import write_record

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

NOMINAL_RADIUS_UM = 5.0
"""Radius of a cell whose area nobody wrote down."""
CIRCLES = "cell_circles"
TABLES = ("cell_boundaries", "nucleus_boundaries", "transcripts")
"""What may be asked for and lies in a Parquet file of this name."""


def read_xenium(
    path: str | Path,
    *,
    he_image: str | Path | Literal[False] | None = None,
    he_alignment: Alignment | None = None,
    cell_groups: str | Path | None = None,
    cell_boundaries: bool = False,
    nucleus_boundaries: bool = False,
    cell_labels: bool = False,
    nucleus_labels: bool = False,
    transcripts: bool = False,
    morphology: bool = False,
    image_key: str = schema.HE_IMAGE,
    table_key: str = schema.TABLE,
) -> SpatialData:
    """Read a Xenium slide and its H&E.

    The table, the cells as circles and the H&E are read; what this library does not use is left out unless
    asked for. Everything builds on :func:`spatialdata_io.xenium` and keeps its conventions: coordinate system
    ``"global"`` is pixels of the morphology image, shapes are in µm. The H&E stays on disk: its pyramid is used
    as it is, and a tile is decoded when its pixels are asked for.

    Parameters
    ----------
    path
        The Xenium output folder (XOA 1.x to 4.x), or a folder that holds only ``cell_feature_matrix.h5`` (or the
        folder ``cell_feature_matrix`` in MEX format) and ``cells.csv.gz`` or ``cells.parquet``, as deposited on GEO;
        of the latter the table and the circles are read.
    he_image
        The H&E: an RGB TIFF of 8 bit, best a tiled pyramidal OME-TIFF, anywhere on disk. By default the one
        ``*he_image.ome.tif`` in `path`, if there is one; `False` leaves it out.
    he_alignment
        Map of H&E pixels (x, y) to morphology pixels, 10x's convention: a CSV of 3 × 3 numbers, a zip exported
        by Xenium Explorer, or an array. By default the file ``*he_imagealignment.csv`` of the image's name
        beside the image or in `path`.
    cell_groups
        A CSV with the columns cell_id, group and perhaps color. By default the one ``*cell_groups.csv`` in
        `path`, if there is one; one that was found so and cannot be used is left out with a warning.
    cell_boundaries, nucleus_boundaries
        Whether to read the polygons, as shapes of these names.
    cell_labels, nucleus_labels
        Whether to read the masks, as labels of these names. With `cell_labels` the table annotates them instead
        of the circles.
    transcripts
        Whether to read the molecules, as points of this name.
    morphology
        Whether to read the fluorescence images.
    image_key, table_key
        Names that the H&E and the table get.

    Returns
    -------
    A SpatialData with

    ``tables[table_key]``
        ``.X`` raw counts (cells × genes), ``.obsm["spatial"]`` cell centres (n, 2) in µm, ``.obs["cell_type"]``
        and ``.uns["cell_type_colors"]`` where there are cell groups, and
        ``.uns["stdistill"]["read_xenium"]``: ``pixel_size`` (µm per morphology pixel), ``xoa_version``, ``n_cells``
        and, with an H&E, ``mpp`` (its µm per pixel, √det of the alignment times ``pixel_size``), ``um_to_he`` (3 × 3,
        µm to H&E pixels), ``he_shape`` (height, width), ``share_on_image`` and ``share_on_tissue`` (of the cells;
        the latter by Otsu's threshold on an overview, where the image has a small level).
    ``images[image_key]``
        The H&E, multi-scale, (3, height, width) uint8, lazy.
    ``shapes["cell_circles"]``
        The cells, in µm; the table annotates them.

    Raises
    ------
    FileNotFoundError
        When the folder, the image or its alignment is not there.
    ValueError
        When a file is broken or another than expected, cell ids differ between files, centres are not finite, the
        image is not RGB of 8 bit, or the alignment is no similarity (up to 5 % of distortion) or puts the cells off
        the image.

    Warns
    -----
    UserWarning
        When the software version cannot be parsed, masks or cell groups that were not asked for cannot be read (they
        are left out), the alignment mirrors or stretches the image, cells fall off it, no more of them lie on nuclei
        than by chance, the resolution that the file states is another one, the image is large and has no tiles or no
        pyramid, or more than a tenth of the cells are not in the file of cell groups.

    Notes
    -----
    That the alignment maps H&E pixels to morphology pixels is 10x's convention (10x knowledge base, "How can I
    convert coordinates between H&E image and Xenium data"). Tolerances are our choice.

    Examples
    --------
    >>> import stdistill as sd
    >>> bundle = sd.datasets.simulate_xenium("slide/outs", n_cells=1000)
    >>> sdata = sd.pp.read_xenium(bundle)
    >>> round(sdata["table"].uns["stdistill"]["read_xenium"]["mpp"], 3)
    0.274
    """
    if isinstance(he_image, bool) and he_image:
        msg = "he_image must be the path of an image, False, or None to look for it in the folder; found True."
        raise TypeError(msg)
    if he_image is False and he_alignment is not None:
        msg = "he_alignment was given, but he_image=False leaves the image out: give only one of them."
        raise ValueError(msg)
    bundle = open_bundle(path)
    extras = {
        "cell_boundaries": cell_boundaries,
        "nucleus_boundaries": nucleus_boundaries,
        "cell_labels": cell_labels,
        "nucleus_labels": nucleus_labels,
        "transcripts": transcripts,
        "morphology": morphology,
    }
    _check_extras(bundle, extras)
    he = None if he_image is False else find_he(bundle.path, he_image, he_alignment)
    groups_file = find_cell_groups(bundle.path, cell_groups)
    cells = read_cells(bundle)
    groups = None if groups_file is None else _read_groups(groups_file, cells.index, named=cell_groups is not None)
    centers = cells[["x_centroid", "y_centroid"]].to_numpy(np.float64)
    placed = None if he is None else place_he(*he, centers, bundle.pixel_size)

    sdata = _read_whole(bundle, extras, table_key) if bundle.is_whole else None
    if sdata is None:
        sdata = _read_part(bundle, cells, table_key)
    adata = sdata.tables[table_key]
    if groups is not None:
        _write_cell_groups(adata, groups)
    if placed is not None:
        sdata.images[image_key] = placed.element
    _write_record(adata, bundle, placed, image_key)
    return sdata


def _check_extras(bundle: XeniumBundle, extras: dict[str, bool]) -> None:
    asked = [name for name, wanted in extras.items() if wanted]
    if asked and not bundle.is_whole:
        msg = (
            f"{bundle.path} is not a whole Xenium bundle (experiment.xenium, cells.zarr.zip, cells.parquet and "
            f"cell_feature_matrix.h5): {', '.join(asked)} cannot be read from it."
        )
        raise ValueError(msg)
    if not bundle.is_whole or bundle.xoa_version is not None:
        return
    # Only these depend on the version: ids in the masks and the names of the morphology images.
    versioned = [name for name in asked if "labels" in name or "morphology" in name or "nucleus" in name]
    found = 'The "analysis_sw_version" in experiment.xenium cannot be parsed (expected such as "xenium-3.0.0.15")'
    if versioned:
        msg = (
            f"{found}, and {', '.join(versioned)} cannot be read without it. Leave them out, or write the true "
            "version into a copy of the file."
        )
        raise ValueError(msg)
    warn(f"{found}. Table, circles and H&E do not depend on it and are read.")


def _read_groups(path: Path, cell_ids: pd.Index, *, named: bool) -> CellGroups | None:
    """Read the groups of the cells; a file that nobody named, and that cannot be used, is left out."""
    try:
        return read_cell_groups(path, cell_ids)
    except (OSError, ValueError) as error:
        if named:
            raise
        warn(f'{error} It was found in the folder and is left out: there is no .obs["{schema.CELL_TYPE}"].')
        return None


def _read_whole(bundle: XeniumBundle, extras: dict[str, bool], table_key: str) -> SpatialData | None:
    """Read what was asked for; `None` where only masks, which were not, keep the whole from being read."""
    check_tables(bundle, [name for name in TABLES if extras[name]])
    try:
        return _read_by_spatialdata_io(bundle, extras, table_key)
    except UNREADABLE as error:
        why = find_masks_fault(bundle) or f"{type(error).__name__}: {error}"
        asked = [name for name, wanted in extras.items() if wanted]
        if asked:
            msg = f"{bundle.path} cannot be read with {', '.join(asked)} ({why}). Leave them out, or copy it again."
            raise ValueError(msg) from error
        warn(
            f"{bundle.path.name} cannot be read as a whole ({why}). The table, the circles and the H&E do not need "
            "that and are read; only the column z_level, which is taken from there, is missing."
        )
        return None


def _read_by_spatialdata_io(bundle: XeniumBundle, extras: dict[str, bool], table_key: str) -> SpatialData:
    from spatialdata import SpatialData
    from spatialdata_io import xenium

    with warnings.catch_warnings():
        if bundle.xoa_version is None:
            warnings.filterwarnings("ignore", message=".*version.*")
        sdata = xenium(
            bundle.path,
            cells_as_circles=not extras["cell_labels"],
            cells_boundaries=extras["cell_boundaries"],
            nucleus_boundaries=extras["nucleus_boundaries"],
            cells_labels=extras["cell_labels"],
            nucleus_labels=extras["nucleus_labels"],
            transcripts=extras["transcripts"],
            morphology_mip=extras["morphology"],
            morphology_focus=extras["morphology"],
            aligned_images=False,
        )
    if table_key == "table":
        return sdata
    elements = {name: element for _, name, element in sdata.gen_elements()}
    elements[table_key] = elements.pop("table")
    return SpatialData.init_from_elements(elements, attrs=sdata.attrs)


def _read_part(bundle: XeniumBundle, cells: pd.DataFrame, table_key: str) -> SpatialData:
    """Read the matrix and the centres of a folder that holds little else, such as those on GEO."""
    from spatialdata import SpatialData, sanitize_table
    from spatialdata.models import ShapesModel, TableModel
    from spatialdata.transformations import Scale

    adata = read_matrix(bundle)
    centers = cells[["x_centroid", "y_centroid"]].to_numpy(np.float64)
    adata.obs = cells.drop(columns=["x_centroid", "y_centroid"]).set_index(adata.obs_names)
    adata.obs["cell_id"] = adata.obs_names
    adata.obs["region"] = pd.Categorical([CIRCLES] * len(cells))
    adata.obsm[schema.SPATIAL] = centers
    radius = np.full(len(cells), NOMINAL_RADIUS_UM)
    if "cell_area" in cells:
        known = np.isfinite(cells["cell_area"]) & (cells["cell_area"].to_numpy() > 0)
        radius[known] = np.sqrt(cells["cell_area"].to_numpy()[known] / np.pi)
    to_morphology_px = Scale([1 / bundle.pixel_size] * 2, axes=("x", "y"))
    circles = ShapesModel.parse(
        centers, geometry=0, radius=radius, index=cells.index, transformations={"global": to_morphology_px}
    )
    sanitize_table(adata)  # people's CSVs have columns of any name
    table = TableModel.parse(adata, region=CIRCLES, region_key="region", instance_key="cell_id")
    return SpatialData.init_from_elements({CIRCLES: circles, table_key: table})


def _write_cell_groups(adata: AnnData, groups: CellGroups) -> None:
    """Write the groups to ``.obs["cell_type"]`` and, where there are colours, ``.uns["cell_type_colors"]``."""
    adata.obs[schema.CELL_TYPE] = groups.labels
    warn_of_names(groups.labels.categories, f".obs[{schema.CELL_TYPE!r}]")
    if groups.colors is not None:
        adata.uns[f"{schema.CELL_TYPE}_colors"] = groups.colors
    logger.info(
        'Wrote .obs["%s"]: %d groups, %d of %d cells labelled.',
        schema.CELL_TYPE,
        len(groups.labels.categories),
        groups.n_known,
        adata.n_obs,
    )


def _write_record(adata: AnnData, bundle: XeniumBundle, he: PlacedHE | None, image_key: str) -> None:
    slide = {"pixel_size": bundle.pixel_size, "xoa_version": bundle.xoa_version, "n_cells": adata.n_obs}
    logger.info("Read %d cells × %d genes.", adata.n_obs, adata.n_vars)
    if he is None:
        write_record(adata, "read_xenium", **slide)
        write_slide_record(adata, SlideRecord("xenium", n_cells=adata.n_obs, pixel_size=bundle.pixel_size))
        return
    record = SlideRecord(
        source="xenium",
        n_cells=adata.n_obs,
        image_key=image_key,
        mpp=he.mpp,
        um_to_px=he.um_to_px,
        shape=he.shape,
        pixel_size=bundle.pixel_size,
        share_on_image=he.share_on_image,
        share_on_tissue=he.share_on_tissue,
        path=str(he.path),
        digest=he.digest,
    )
    write_slide_record(adata, record)
    write_record(
        adata,
        "read_xenium",
        **slide,
        image_key=image_key,
        mpp=he.mpp,
        um_to_he=he.um_to_px,
        he_shape=np.array(he.shape),
        share_on_image=he.share_on_image,
        share_on_tissue=he.share_on_tissue,
    )
    on_tissue = "" if he.share_on_tissue is None else f", {100 * he.share_on_tissue:.1f} % of these on tissue"
    logger.info(
        "H&E at %.4f µm per pixel; %.1f %% of the cells lie on it%s.",
        he.mpp,
        100 * he.share_on_image,
        on_tissue,
    )
