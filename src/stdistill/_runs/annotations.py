"""A pathologist's annotations of a slide, and the folds in which niches are measured by them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from anndata import AnnData

from stdistill._measures.blocks import Fold
from stdistill._measures.labels import Labels
from stdistill._support.arrays import Rows
from stdistill._support.checks import check_choice, check_integer, check_positive
from stdistill._table import schema
from stdistill._table.annotations import (
    BLOCK_UM,
    FRAMES,
    GAP_UM,
    N_FOLDS,
    PolygonsUnit,
    Protocol,
    folds_of,
    points_of_cells,
    restrict,
)
from stdistill._table.checks import get_table
from stdistill._table.labels import read_labels

if TYPE_CHECKING:
    from spatialdata import SpatialData


def annotated_folds(
    data: AnnData | SpatialData,
    *,
    label_key: str | None,
    polygons: str | Path | None,
    polygons_unit: PolygonsUnit,
    labels: Sequence[str] | None = None,
    protocol: Protocol = "blocks",
    split_key: str | None = schema.SPLIT,
    n_folds: int = N_FOLDS,
    block_um: float = BLOCK_UM,
    gap_um: float = GAP_UM,
    image_key: str = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    table_key: str = schema.TABLE,
) -> tuple[Labels, Rows, list[Fold]]:
    """Return the annotations, the cells to be fitted and scored, and their folds; it takes no niches.

    Parameters are those of `pathology_probe`, and so is what is raised for them.
    """
    _check_parameters(label_key, polygons, polygons_unit, protocol, n_folds, block_um, gap_um)
    adata = get_table(data, table_key)
    if polygons is None:
        truth = read_labels(adata, str(label_key), "label_key", hint=None)
    else:
        from stdistill._formats.annotations import label_by_polygons

        points = points_of_cells(
            data, polygons_unit, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key
        )
        truth = label_by_polygons(points, polygons, FRAMES[polygons_unit], polygons_unit)
    truth = restrict(truth, labels)
    annotated, folds = folds_of(
        adata,
        truth,
        protocol=protocol,
        split_key=split_key,
        n_folds=n_folds,
        block_um=block_um,
        gap_um=gap_um,
    )
    return truth, annotated, folds


def _check_parameters(
    label_key: str | None,
    polygons: str | Path | None,
    polygons_unit: str,
    protocol: str,
    n_folds: int,
    block_um: float,
    gap_um: float,
) -> None:
    if (label_key is None) == (polygons is None):
        msg = "Give the annotations either as label_key=, a column of .obs, or as polygons=, a GeoJSON file."
        raise ValueError(msg)
    check_choice(polygons_unit, "polygons_unit", get_args(PolygonsUnit))
    check_choice(protocol, "protocol", get_args(Protocol))
    check_integer(n_folds, "n_folds", minimum=2)
    check_positive(block_um, "block_um")
    if gap_um != 0:
        check_positive(gap_um, "gap_um")
    if gap_um > block_um:
        msg = f"gap_um must be at most block_um, {block_um:g}, found {gap_um:g}."
        raise ValueError(msg)
