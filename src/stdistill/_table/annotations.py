"""The annotated cells of a slide, and the folds in which they are fitted and scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from anndata import AnnData

from stdistill._measures.blocks import Fold, block_folds, blocks_of
from stdistill._measures.labels import Labels, check_several
from stdistill._support.arrays import Rows
from stdistill._support.checks import check_key, check_list
from stdistill._table import schema
from stdistill._table.checks import get_centers, get_table
from stdistill._table.he.placement import he_frames, locate
from stdistill._table.he.placement_checks import check_placement
from stdistill._table.labels import held_out, read_split, split_group

if TYPE_CHECKING:
    from spatialdata import SpatialData

Protocol = Literal["blocks", "split"]
PolygonsUnit = Literal["px", "um"]

N_FOLDS = 5
BLOCK_UM = 500.0
GAP_UM = 120.0


FRAMES = {
    "px": "pixels of the H&E at full resolution",
    "um": f'µm, in the frame of .obsm["{schema.SPATIAL}"]',
}
"""What polygons may be drawn in, by their unit."""


def points_of_cells(
    data: AnnData | SpatialData,
    unit: str,
    *,
    image_key: str = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    table_key: str = schema.TABLE,
) -> npt.NDArray[np.float64]:
    """Return the cell centres (n, 2) in the frame of polygons of this unit; NaN for cells of no region."""
    centers = get_centers(get_table(data, table_key))
    if unit == "um":
        return centers
    try:
        frames = he_frames(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
        check_placement(data, frames, table_key)
    except (KeyError, ValueError) as error:
        msg = (
            f"Polygons are taken to be in {FRAMES['px']}, and where the cells lie there is not known. {error.args[0]} "
            f'Polygons in {FRAMES["um"]}, are read with polygons_unit="um".'
        )
        raise ValueError(msg) from error
    return locate(frames, centers)[["x", "y"]].to_numpy()


def folds_of(
    adata: AnnData,
    truth: Labels,
    *,
    protocol: Protocol,
    split_key: str | None,
    n_folds: int,
    block_um: float,
    gap_um: float,
) -> tuple[Rows, list[Fold]]:
    """Return the cells to be fitted and scored, and their folds; parameters are those of `pathology_probe`."""
    if protocol == "split":
        return _split_folds(adata, truth, split_key)
    return _spatial_folds(adata, truth, split_key, n_folds, block_um, gap_um)


def restrict(truth: Labels, labels: Sequence[str] | None) -> Labels:
    """Drop the cells whose annotation is not among `labels`."""
    if labels is None:
        return truth
    check_list(labels, "labels")
    for label in labels:
        check_key(label, truth.names, "an annotation", argument="labels")
    keep = np.isin(truth.codes, [truth.names.index(label) for label in labels])
    return Labels(np.where(keep, truth.codes, -1), truth.names)


def _split_folds(adata: AnnData, truth: Labels, split_key: str | None) -> tuple[Rows, list[Fold]]:
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
) -> tuple[Rows, list[Fold]]:
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


def check_fit(truth: Labels, fit: Rows, having: str = "") -> None:
    """Raise unless the cells that a fold is fitted to have several annotations; `having` says how they were chosen."""
    present = np.unique(truth.codes[fit])
    if len(present) < 2:
        found = [truth.names[code] for code in present]
        msg = f"A fold has only cells annotated {found}{having} to be predicted from. Use a smaller block_um or gap_um."
        raise ValueError(msg)


def _check_annotations(truth: Labels, annotated: Rows) -> None:
    if not len(annotated):
        msg = "No cell that could be scored is annotated. Give split_key=None to take all cells."
        raise ValueError(msg)
    mask = np.zeros(len(truth.codes), dtype=bool)
    mask[annotated] = True
    check_several(truth, mask, "The annotation")
