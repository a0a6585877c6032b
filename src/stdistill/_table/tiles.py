"""Tiles of an H&E in a SpatialData: squares, a table with a row for each, and in which of them each cell is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix, issparse

from stdistill._slide.tiling import NOWHERE, LaidTiles
from stdistill._support.arrays import Floats, Integers
from stdistill._support.checks import check_key
from stdistill._support.files import digest
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import get_centers, get_table, held_beside
from stdistill._table.he.place import systems_of_um
from stdistill._table.he.placement import HEFrame
from stdistill._table.records import read_record, write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

STEP = "tiles"
REGION = "region"
HINT = "Lay them with sd.pp.tiles."
OWN_OBS = {"n_cells", schema.SPLIT, REGION, schema.INSTANCE}
"""What a table of tiles is written with."""
GROUPS = (schema.TRAIN, schema.TEST)
PLACE_UM = 0.5
"""Centres may have been rounded since."""


class CellsInTiles(NamedTuple):
    """Where the cells of a table are."""

    tile: Integers
    """(n,), row of the table of tiles; -1 where a cell is in none."""
    place: npt.NDArray[np.int8]
    """(n,), the smallest square of its tile, row by row from the upper left on the H&E; -1 where it is in none."""


def get_tiles(data: AnnData | SpatialData, tiles_key: str) -> AnnData:
    """Return the table of tiles of `data`, which is `data` itself when it is an AnnData.

    Raises
    ------
    KeyError
        When there is none of this name.
    ValueError
        When the table is of something else.
    """
    if not isinstance(data, AnnData) and hasattr(data, "tables"):
        check_key(tiles_key, data.tables, "a table of tiles", argument="tiles_key", hint=HINT)
    tiles = get_table(data, tiles_key)
    if not read_record(tiles, STEP):
        what = "The table" if isinstance(data, AnnData) else f"The table {tiles_key!r}"
        msg = f"{what} is not one of tiles, which sd.pp.tiles writes: it has no record of them. {HINT}"
        raise ValueError(msg)
    return tiles


def tile_columns(tiles_key: str) -> tuple[str, str]:
    """Name the columns of the cells that say in which tile, and at which place of it, each is.

    Cells may be in tiles of several kinds, each with columns of its own.
    """
    prefix = "" if tiles_key == schema.TILES else f"{tiles_key}_"
    return f"{prefix}{schema.TILE}", f"{prefix}{schema.TILE_PLACE}"


def tiles_of_cells(cells: AnnData, tiles: AnnData, tiles_key: str = schema.TILES) -> CellsInTiles:
    """Return in which row of the table of tiles each cell is, and where within the tile.

    Both tables may have been filtered or reordered since.

    Raises
    ------
    KeyError
        When the cells do not say in which tiles they are.
    ValueError
        When more cells are in a tile than it had, or cells lie outside of theirs: cells and tiles are not of one call.
    """
    columns = tile_columns(tiles_key)
    for column in columns:
        check_key(column, cells.obs.columns, "a column of .obs of the cells", argument="tiles_key", hint=HINT)
    ids, places = (cells.obs[column].astype("Float64").fillna(NOWHERE).to_numpy(np.int64) for column in columns)
    rows = pd.Index(tiles.obs[schema.INSTANCE]).get_indexer(pd.Index(ids))
    found = np.bincount(rows[rows != NOWHERE], minlength=tiles.n_obs)
    if (found > tiles.obs["n_cells"].to_numpy()).any():
        msg = (
            f"More cells are in some tiles (.obs[{columns[0]!r}]) than the table {tiles_key!r} says: tiles were laid "
            "anew for one of the two tables. Run sd.pp.tiles on the SpatialData that holds both."
        )
        raise ValueError(msg)
    _check_inside(cells, tiles, rows)
    _warn_of_fewer(found, tiles.obs["n_cells"].to_numpy(), tiles_key)
    return CellsInTiles(rows, np.where(rows == NOWHERE, NOWHERE, places).astype(np.int8))


def _warn_of_fewer(found: Integers, laid: Integers, tiles_key: str) -> None:
    """Warn of tiles that lost some of their cells; those without any are of a part of the slide that was left out."""
    poorer = (found > 0) & (found < laid)
    if poorer.any():
        warn(
            f"{poorer.sum()} of {len(found)} tiles have fewer cells than when they were laid "
            f"({found[poorer].sum()} of {laid[poorer].sum()}): cells were taken away since. The counts of the table "
            f"{tiles_key!r} are of all of them, and tiles may have too few. Run sd.pp.tiles again, which lays them "
            "with the cells that are there."
        )


def _check_inside(cells: AnnData, tiles: AnnData, rows: Integers) -> None:
    """Raise when cells lie further from the middle of their tile than its corners do, however it is turned."""
    inside = np.flatnonzero(rows != NOWHERE)
    away = np.linalg.norm(get_centers(cells)[inside] - get_centers(tiles)[rows[inside]], axis=1)
    tile_um = float(read_record(tiles, STEP)["tile_um"])
    n_outside = int((away > tile_um / np.sqrt(2) + PLACE_UM).sum())
    if n_outside:
        msg = (
            f"{n_outside} of {len(inside)} cells do not lie in the tiles of {tile_um:.0f} µm that they are said to be "
            "in: their centres have changed since, or are in another order. Run sd.pp.tiles again."
        )
        raise ValueError(msg)


def check_groups(cells: AnnData, tiles: AnnData, tile: Integers, split_key: str | None) -> None:
    """Raise when tiles were laid with another split of their cells than there is: test cells would be trained on.

    Parameters
    ----------
    cells, tiles
        The tables.
    tile
        (n,), row of the table of tiles of each cell.
    split_key
        The split of the tiles, as users give it.
    """
    laid_with = read_record(tiles, STEP).get("split_key")
    if split_key is None or split_key not in tiles.obs or laid_with is None or laid_with not in cells.obs:
        return
    own = cells.obs[laid_with].astype(object).to_numpy()
    laid = np.array([*tiles.obs[split_key], None], dtype=object)[tile]
    moved = np.isin(own, GROUPS) & np.isin(laid, GROUPS) & (own != laid)
    if moved.any():
        msg = (
            f"{moved.sum()} cells are in another group of .obs[{laid_with!r}] than the tiles that they are in: "
            "one of the two was changed since the tiles were laid, as by sd.pp.split_strips. Run sd.pp.tiles and "
            "sd.pp.embed_tiles again, or give split_key=None, which holds no tile out."
        )
        raise ValueError(msg)


def sum_counts(counts: Any, tile: Integers, n_tiles: int) -> csr_matrix:
    """Sum the rows (n, genes), CSR or an array, of the cells of each tile: (tiles, genes) CSR float32."""
    rows = np.flatnonzero(tile != NOWHERE)
    members = csr_matrix((np.ones(len(rows), np.float32), (tile[rows], rows)), shape=(n_tiles, len(tile)))
    sums = csr_matrix(members @ (csr_matrix(counts) if issparse(counts) else np.asarray(counts)), dtype=np.float32)
    sums.sort_indices()
    return sums


def make_table(laid: LaidTiles, frame: HEFrame, tiles_key: str, counts: csr_matrix, genes: pd.DataFrame) -> AnnData:
    """Make the table of tiles, without its record; `laid.groups` are train and test."""
    n_tiles = len(laid.corners)
    numbers = np.arange(1, n_tiles + 1)
    obs = pd.DataFrame(
        {
            "n_cells": laid.n_cells.astype(np.int32),
            REGION: pd.Categorical([squares_key(tiles_key)]).repeat(n_tiles),
            schema.INSTANCE: numbers,
        },
        index=[f"tile-{number}" for number in numbers],
    )
    if (laid.groups != NOWHERE).any():
        obs[schema.SPLIT] = pd.Categorical.from_codes(laid.groups.astype(np.int64), pd.Index(GROUPS))
    return AnnData(counts, obs=obs, var=genes, obsm={schema.SPATIAL: frame.to_um(laid.corners + laid.side / 2)})


def fingerprint(laid: LaidTiles) -> str:
    """Tell tiles from others by where they lie, and by which cells are where in them."""
    return digest(repr(laid.side), laid.corners, laid.tile.astype(np.int32), laid.place)[:16]


def squares_key(tiles_key: str) -> str:
    """Name the shapes of tiles."""
    return f"{tiles_key}{schema.SQUARES_SUFFIX}"


def check_free(sdata: SpatialData, tiles_key: str) -> None:
    """Raise unless tiles can be written: names are free, or hold tiles that were laid before."""
    before = sdata.tables.get(tiles_key)
    is_own = before is not None and bool(read_record(before, STEP))
    kinds = {(kind, name) for kind, name, _ in sdata.gen_elements()}
    own = {("tables", tiles_key), ("shapes", squares_key(tiles_key))}
    taken = sorted(name for kind, name in kinds if name in dict(own).values() and not (is_own and (kind, name) in own))
    if taken:
        msg = (
            f"There is an element {taken[0]!r} already, which is none of the tiles of sd.pp.tiles: give the tiles "
            "another name with tiles_key=, or delete it."
        )
        raise ValueError(msg)


def check_replaceable(before: AnnData, tiles_key: str) -> None:
    """Raise when other tiles hold what was computed for them, which would be lost."""
    made = held_beside(before, OWN_OBS)
    if made:
        msg = (
            f"The tiles {tiles_key!r} that were laid before are not these, and hold {', '.join(made)}, which would be "
            "lost. Give the new tiles another name with tiles_key=, or delete the old ones first: "
            f"del sdata.tables[{tiles_key!r}], sdata.shapes[{squares_key(tiles_key)!r}]."
        )
        raise ValueError(msg)


def is_same(before: AnnData, now: AnnData, mark: str) -> bool:
    """Whether tiles that were laid before are these: the same squares with the same cells and genes."""
    return (
        read_record(before, STEP).get("fingerprint") == mark
        and before.obs_names.equals(now.obs_names)
        and before.var_names.equals(now.var_names)
    )


def write_tiles(
    sdata: SpatialData, table: AnnData, laid: LaidTiles, frame: HEFrame, tiles_key: str, **params: Any
) -> None:
    """Write tiles as shapes in µm, in all coordinate systems of the image, with the table that annotates them.

    Where the same were laid before, only what is written of them is renewed: what was computed for them stays.
    """
    from spatialdata.models import TableModel

    before = sdata.tables.get(tiles_key)
    mark = fingerprint(laid)
    if before is not None and is_same(before, table, mark):
        before.X = table.X
        for key in sorted(OWN_OBS & {*before.obs, *table.obs}):
            if key in table.obs:
                before.obs[key] = table.obs[key]
            else:
                del before.obs[key]
        before.obsm[schema.SPATIAL] = table.obsm[schema.SPATIAL]
        write_record(before, STEP, fingerprint=mark, **params)
        _replace(sdata.shapes, squares_key(tiles_key), _squares(sdata, laid, frame))
        return
    if before is not None:
        check_replaceable(before, tiles_key)
    write_record(table, STEP, fingerprint=mark, **params)
    _replace(sdata.shapes, squares_key(tiles_key), _squares(sdata, laid, frame))
    parsed = TableModel.parse(table, region=squares_key(tiles_key), region_key=REGION, instance_key=schema.INSTANCE)
    _replace(sdata.tables, tiles_key, parsed)


def write_places(cells: AnnData, laid: LaidTiles, tiles_key: str) -> None:
    """Write to the cells which tile each is in, by the number of its square, and at which place of it."""
    nowhere = laid.tile == NOWHERE
    tile, place = tile_columns(tiles_key)
    cells.obs[tile] = pd.arrays.IntegerArray((laid.tile + 1).astype(np.int32), nowhere)
    cells.obs[place] = pd.arrays.IntegerArray(laid.place.copy(), nowhere.copy())


def check_columns(cells: AnnData, tiles_key: str) -> None:
    """Raise when columns of the cells hold something else than tiles; those of earlier tiles are replaced."""
    for column, dtype in zip(tile_columns(tiles_key), ("Int32", "Int8"), strict=True):
        if column in cells.obs and str(cells.obs[column].dtype) != dtype:
            msg = (
                f".obs[{column!r}] of the cells is there already, and sd.pp.tiles did not write it (it holds "
                f"{cells.obs[column].dtype}, not {dtype}): rename it, or name the tiles otherwise with tiles_key=."
            )
            raise ValueError(msg)


def _squares(sdata: SpatialData, laid: LaidTiles, frame: HEFrame) -> Any:
    """Make the shapes: squares in µm, numbered from 1."""
    import geopandas as gpd
    import shapely
    from spatialdata.models import ShapesModel

    around = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * laid.side
    corners: Floats = frame.to_um((laid.corners[:, None] + around).reshape(-1, 2).astype(np.float64))
    squares = shapely.polygons(corners.reshape(-1, 4, 2))
    shapes = gpd.GeoDataFrame(geometry=squares, index=np.arange(1, len(squares) + 1))
    return ShapesModel.parse(shapes, transformations=systems_of_um(sdata.images[frame.image_key], frame.um_to_px))


def _replace(elements: Any, key: str, element: Any) -> None:
    if key in elements:
        del elements[key]
    elements[key] = element
