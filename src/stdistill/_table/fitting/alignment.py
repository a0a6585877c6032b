"""What an alignment takes from tables of tiles and of cells, and what it writes to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from anndata import AnnData

from stdistill._support.arrays import Floats, Mask
from stdistill._support.checks import check_key
from stdistill._table.checks import as_slides, get_centers, get_split, get_table
from stdistill._table.fitting.aligned import Side, aligned_key
from stdistill._table.fitting.inputs import check_features, test_cells, together, training_cells
from stdistill._table.fitting.overlap import check_cells_apart
from stdistill._table.marks.rows import write_rows
from stdistill._table.provenance.checks import check_features_unseen
from stdistill._table.provenance.results import fingerprint, write_fitted
from stdistill._table.records import read_record, write_record
from stdistill._table.tiles import STEP as TILES
from stdistill._table.tiles import check_groups, get_tiles, tiles_of_cells

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.models.alignment.fit import AlignmentData
    from stdistill.models.alignment.model import AlignmentModel, Embeddings

CELLS = "X_sigmma"
"""Begins the keys of ``.obsm`` of what is said of cells."""


class AlignmentInputs(NamedTuple):
    """The tiles of one or several slides, one after the other."""

    tiles: list[AnnData]
    cells: list[AnnData]
    """Of each slide; empty where expression is not read."""
    data: AlignmentData
    known_cells: list[Mask]
    """(n,) of each table of cells: those in a tile whose expression is known."""
    with_he: Mask
    """(n_tiles,), the tiles with features at all scales."""
    with_cells: Mask
    """(n_tiles,), the tiles with a cell whose expression is known."""
    training: Mask
    """(n_tiles,), the tiles to train on if they have both."""

    def with_features(self, he_keys: dict[str, str]) -> AlignmentInputs:
        """Return the same with other features of the tiles: their keys of ``.obsm`` at each scale."""
        images = _images(self.tiles, he_keys)
        return self._replace(data=self.data._replace(images=images), with_he=_known(images))

    def divide(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Give each table of tiles its part of (n_tiles, …) values."""
        return np.split(values, np.cumsum([table.n_obs for table in self.tiles[:-1]]))

    def divide_cells(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Give each table of cells its part of (n_cells, …) values: NaN for cells that are not known."""
        bounds = np.cumsum([known.sum() for known in self.known_cells[:-1]])
        divided = []
        for known, part in zip(self.known_cells, np.split(values, bounds), strict=True):
            whole = np.full((len(known), part.shape[1]), np.nan, dtype=part.dtype)
            whole[known] = part
            divided.append(whole)
        return divided


def get_slides(data: SpatialData | Sequence[SpatialData]) -> list[SpatialData]:
    """Return the slides, which hold tiles and cells both."""
    slides = as_slides(data)
    for slide in slides:
        if isinstance(slide, AnnData) or not hasattr(slide, "tables"):
            msg = (
                f"Expected a SpatialData with tables of tiles and of cells, found {type(slide).__name__}: an alignment "
                "reads both."
            )
            raise TypeError(msg)
    return slides


def alignment_inputs(
    slides: Sequence[SpatialData],
    *,
    he_keys: dict[str, str],
    use_rep: str | None,
    radius_um: float,
    max_pairs: int,
    split_key: str | None,
    tiles_key: str,
) -> AlignmentInputs:
    """Gather the features of tiles at each scale, and the cells in them.

    Parameters
    ----------
    slides
        With tiles and cells.
    he_keys
        Key of ``.obsm`` of the tiles at each scale.
    use_rep
        Key of ``.obsm`` of the cells; `None`: expression is not read.
    radius_um, max_pairs
        See `CellGraphs`.
    split_key
        Column of ``.obs`` of the tiles.
    tiles_key
        Name of the table of tiles.
    """
    from stdistill.models.alignment.fit import AlignmentData
    from stdistill.models.alignment.tiles import CellGraphs
    from stdistill.models.features import known_rows

    tiles = [get_tiles(slide, tiles_key) for slide in slides]
    for key in he_keys.values():
        check_tile_features(tiles, key)
    cells = [] if use_rep is None else [_cells_of(slide, table) for slide, table in zip(slides, tiles, strict=True)]
    if use_rep is not None:
        check_features(cells, use_rep)
    begins = np.cumsum([0] + [table.n_obs for table in tiles])
    parts = []
    for table, own, begin in zip(tiles, cells, begins, strict=False):
        found = tiles_of_cells(own, table, tiles_key)
        check_groups(own, table, found.tile, split_key)
        latent = np.asarray(own.obsm[use_rep])
        known = (found.tile >= 0) & known_rows(latent)
        place = found.place[known].astype(np.int64)
        parts.append((latent[known], get_centers(own)[known], found.tile[known] + begin, place, known))
    latents, centers, tile, places, known_cells = zip(*parts, strict=True) if parts else ([], [], [], [], [])
    graphs = CellGraphs(
        together(latents) if parts else np.zeros((0, 1), dtype=np.float32),
        together(centers) if parts else np.zeros((0, 2)),
        together(tile) if parts else np.zeros(0, dtype=np.int64),
        together(places) if parts else np.zeros(0, dtype=np.int64),
        int(begins[-1]),
        radius_um=radius_um,
        max_pairs=max_pairs,
    )
    images = _images(tiles, he_keys)
    data = AlignmentData(
        images=images,
        graphs=graphs,
        slide=np.repeat(np.arange(len(tiles)), [table.n_obs for table in tiles]),
        centers=np.concatenate([get_centers(table) for table in tiles]),
        side_um=max(float(read_record(table, TILES)["tile_um"]) for table in tiles),
    )
    splits = [get_split(table, split_key) for table in tiles]
    return AlignmentInputs(
        tiles=tiles,
        cells=cells,
        data=data,
        known_cells=list(known_cells),
        with_he=_known(images),
        with_cells=graphs.n_cells > 0,
        training=np.concatenate([training_cells(table, split) for table, split in zip(tiles, splits, strict=True)]),
    )


def _images(tiles: Sequence[AnnData], he_keys: dict[str, str]) -> dict[str, Floats]:
    """Return the features (n_tiles, d) of each scale, of all tables one after the other."""
    return {scale: together([np.asarray(table.obsm[key]) for table in tiles]) for scale, key in he_keys.items()}


def _known(images: dict[str, Floats]) -> Mask:
    """Tell which tiles (n,) have features at all scales."""
    from stdistill.models.features import known_rows

    known: Mask = np.logical_and.reduce([known_rows(each) for each in images.values()])
    return known


def check_tile_features(tiles: Sequence[AnnData], key: str) -> None:
    """Raise unless every table of tiles has features under a key."""
    for table in tiles:
        hint = "Compute them with sd.pp.embed_tiles."
        check_key(key, table.obsm.keys(), "features in .obsm of the tiles", argument="he_rep", hint=hint)
    check_features(tiles, key)


def find_cells(slide: SpatialData, tiles: AnnData) -> AnnData | None:
    """Return the table of the cells that the tiles were laid over; `None` where these lie over tissue."""
    table_key = read_record(tiles, TILES).get("table_key")
    return None if table_key is None else get_table(slide, str(table_key))


def _cells_of(slide: SpatialData, tiles: AnnData) -> AnnData:
    """Return the table of the cells that the tiles were laid over, which must be there."""
    cells = find_cells(slide, tiles)
    if cells is None:
        msg = "The tiles were laid over tissue, without cells: expression is read of cells. Run sd.pp.tiles again."
        raise ValueError(msg)
    return cells


def check_unseen(inputs: AlignmentInputs, he_key: str, use_rep: str, split_key: str | None) -> None:
    """Raise when tiles are held out that are trained on, or the expression of whose cells is in its own latent.

    `he_key` is of the tiles' features at the first scale.
    """
    test = np.concatenate([test_cells(table, get_split(table, split_key)) for table in inputs.tiles])
    features, centers = next(iter(inputs.data.images.values())), inputs.data.centers
    check_cells_apart(inputs.tiles, he_key, features, centers, training=inputs.training, test=test, what="tiles")
    for tiles, cells in zip(inputs.tiles, inputs.cells, strict=True):
        if get_split(tiles, split_key) is not None:
            own = read_record(tiles, TILES).get("split_key")
            check_features_unseen(cells, use_rep, None if own is None else str(own))


def write_alignment(
    step: str,
    inputs: AlignmentInputs,
    model: AlignmentModel,
    he: Embeddings,
    expression: Embeddings | None,
    cells: Embeddings | None,
    fitted: Sequence[Mask | None],
    *,
    key_added: str,
    he_rep: str,
    **params: Any,
) -> None:
    """Write the embeddings of tiles and cells, each side at each scale and all of them, and what was fitted on."""
    sha256 = model.sha256
    sides: dict[Side, Embeddings] = {"he": he} if expression is None else {"he": he, "expression": expression}
    for side, embedded in sides.items():
        joined = np.concatenate(list(embedded.values()), axis=1) / np.float32(np.sqrt(len(embedded)))
        written: list[tuple[str | None, Floats]] = [(None, joined), *embedded.items()]
        for scale, values in written:
            for table, part in zip(inputs.tiles, inputs.divide(values), strict=True):
                write_rows(table, aligned_key(key_added, side, scale), part)
    for scale, values in (cells or {}).items():
        for table, part in zip(inputs.cells, inputs.divide_cells(values), strict=True):
            table.obsm[f"{CELLS}_{scale}"] = part
    for table, own in zip(inputs.tiles, fitted, strict=True):
        write_fitted(table, key_added, own, sha256)
        write_record(
            table,
            step,
            key_added=key_added,
            model_sha256=sha256,
            fingerprint=fingerprint(np.ascontiguousarray(table.obsm[aligned_key(key_added, "he")])),
            he_rep=he_rep,
            features=read_record(table, "embed_tiles", he_rep).get("fingerprint"),
            **params,
        )
