"""The annotated cells of a slide, and the folds in which they are fitted and scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from anndata import AnnData

from stdistill._measures.blocks import Fold, block_folds, blocks_of
from stdistill._table import schema
from stdistill._table.checks import check_integer, check_key, check_positive, get_centers, get_table
from stdistill._table.labels import (
    IntArray,
    Labels,
    check_several,
    held_out,
    read_labels,
    read_split,
    split_group,
)

if TYPE_CHECKING:
    from spatialdata import SpatialData

Protocol = Literal["blocks", "split"]
PolygonsUnit = Literal["px", "um"]

N_FOLDS = 5
BLOCK_UM = 500.0
GAP_UM = 120.0


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
    table_key: str = schema.TABLE,
) -> tuple[Labels, IntArray, list[Fold]]:
    """Return the annotations, the cells to be fitted and scored, and their folds; it takes no niches.

    Parameters are those of `pathology_probe`, and so is what is raised for them.
    """
    _check_parameters(label_key, polygons, polygons_unit, protocol, n_folds, block_um, gap_um)
    adata = get_table(data, table_key)
    if polygons is None:
        truth = read_labels(adata, str(label_key), "label_key", hint=None)
    else:
        from stdistill._formats.geojson import label_by_polygons, points_of_cells

        points = points_of_cells(data, polygons_unit, image_key=image_key, table_key=table_key)
        truth = label_by_polygons(points, polygons, polygons_unit)
    truth = _restrict(truth, labels)
    if protocol == "split":
        return truth, *_split_folds(adata, truth, split_key)
    return truth, *_spatial_folds(adata, truth, split_key, n_folds, block_um, gap_um)


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
    for name, value, known in (
        ("polygons_unit", polygons_unit, get_args(PolygonsUnit)),
        ("protocol", protocol, get_args(Protocol)),
    ):
        if value not in known:
            msg = f"{name} must be one of {list(known)}, found {value!r}."
            raise ValueError(msg)
    check_integer(n_folds, "n_folds", minimum=2)
    check_positive(block_um, "block_um")
    if gap_um != 0:
        check_positive(gap_um, "gap_um")
    if gap_um > block_um:
        msg = f"gap_um must be at most block_um, {block_um:g}, found {gap_um:g}."
        raise ValueError(msg)


def _restrict(truth: Labels, labels: Sequence[str] | None) -> Labels:
    """Drop the cells whose annotation is not among `labels`."""
    if labels is None:
        return truth
    for label in labels:
        check_key(label, truth.names, "an annotation", argument="labels")
    keep = np.isin(truth.codes, [truth.names.index(label) for label in labels])
    return Labels(np.where(keep, truth.codes, -1), truth.names)


def _split_folds(adata: AnnData, truth: Labels, split_key: str | None) -> tuple[IntArray, list[Fold]]:
    split = read_split(adata, split_key)
    if split is None:
        msg = 'protocol="split" needs a split: write one with sd.pp.split_strips, or use protocol="blocks".'
        raise ValueError(msg)
    fit, score = (np.flatnonzero(split_group(split, group) & truth.known) for group in (schema.TRAIN, schema.TEST))
    annotated = np.r_[fit, score]
    _check_annotations(truth, annotated)
    for code in np.unique(truth.codes[annotated]):
        for cells, group in ((fit, schema.TRAIN), (score, schema.TEST)):
            if not (truth.codes[cells] == code).any():
                msg = (
                    f"No {group} cell is annotated {truth.names[code]!r}: it cannot be both fitted and scored. Leave "
                    'it out with labels=, or use protocol="blocks".'
                )
                raise ValueError(msg)
    return annotated, [Fold(fit, score)]


def _spatial_folds(
    adata: AnnData, truth: Labels, split_key: str | None, n_folds: int, block_um: float, gap_um: float
) -> tuple[IntArray, list[Fold]]:
    group, cells = held_out(adata, split_key)
    annotated = np.flatnonzero(cells & truth.known)
    _check_annotations(truth, annotated)
    centers, classes = get_centers(adata)[annotated], truth.codes[annotated]
    blocks = blocks_of(centers, block_um)
    advice = "Use a smaller block_um" + ("" if split_key is None else ", or all cells (split_key=None)")
    if blocks.max() + 1 < n_folds:
        msg = f"The annotated cells ({group}) lie in {blocks.max() + 1} blocks, fewer than {n_folds} folds. {advice}."
        raise ValueError(msg)
    for code in np.unique(classes):
        if len(np.unique(blocks[classes == code])) < 2:
            msg = (
                f"The cells ({group}) annotated {truth.names[code]!r} lie in one block of {block_um:g} µm: they "
                f"cannot be both fitted and scored. {advice}, or leave them out with labels=."
            )
            raise ValueError(msg)
    folds = block_folds(centers, classes, n_folds=n_folds, block_um=block_um, gap_um=gap_um)
    folds = [Fold(annotated[fold.fit], annotated[fold.score]) for fold in folds]
    for fold in folds:
        check_fit(truth, fold.fit)
    return annotated, folds


def check_fit(truth: Labels, fit: IntArray, having: str = "") -> None:
    """Raise unless the cells that a fold is fitted to have several annotations; `having` says how they were chosen."""
    present = np.unique(truth.codes[fit])
    if len(present) < 2:
        found = [truth.names[code] for code in present]
        msg = f"A fold has only cells annotated {found}{having} to be predicted from. Use a smaller block_um or gap_um."
        raise ValueError(msg)


def _check_annotations(truth: Labels, annotated: IntArray) -> None:
    if not len(annotated):
        msg = "No cell that could be scored is annotated. Give split_key=None to take all cells."
        raise ValueError(msg)
    mask = np.zeros(len(truth.codes), dtype=bool)
    mask[annotated] = True
    check_several(truth, mask, "The annotation")
