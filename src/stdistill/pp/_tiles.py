"""Tiles: squares of the H&E that do not overlap, and the cells in them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix

from stdistill._slide.tiling import NOWHERE, LaidTiles, lay_grid, nearest_groups, share_covered, tile_cells
from stdistill._support.checks import READ_AGAIN, check_integer, check_key, check_name, check_positive, check_sparse
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import find_split_key, get_centers, get_sdata, get_split, share_elements
from stdistill._table.he.images import get_image, image_shape, slide_levels
from stdistill._table.he.place import find_um_to_px
from stdistill._table.he.placement import HEFrame, he_frames
from stdistill._table.he.placement_checks import check_placement
from stdistill._table.he.plans import check_crop_scale
from stdistill._table.he.tissue import find_tissue_on, see_tissue
from stdistill._table.records import read_record
from stdistill._table.tiles import (
    GROUPS,
    STEP,
    check_columns,
    check_free,
    make_table,
    sum_counts,
    write_places,
    write_tiles,
)

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill._support.arrays import Floats, Integers

logger = logging.getLogger("stdistill")

PER_SIDE = max(schema.SCALES.values())
MIN_PLACE_PX = 8
"""Side of the smallest squares of a tile, at least: of the smallest crops that are embedded."""
MIN_TISSUE_SHARE = 0.5
"""So much of a tile is tissue, where there are no cells (our choice)."""


def tiles(
    data: SpatialData,
    *,
    tile_px: int = 256,
    mpp: float = 0.5,
    min_cells: int = 10,
    split_key: str | None = schema.SPLIT,
    image_key: str = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    tiles_key: str = schema.TILES,
    table_key: str = schema.TABLE,
    copy: bool = False,
) -> SpatialData | None:
    """Lay square tiles over the H&E, and find the cells in each.

    Tiles are the squares of one grid in the pixels of the H&E, however it lies to the cells. They do not overlap, and
    lie wholly on the image. Each is cut into 2 × 2 and 4 × 4 smaller squares, its places. Without a table of cells
    tiles are laid over tissue.

    Parameters
    ----------
    data
        SpatialData with an H&E; one slide.
    tile_px, mpp
        Side of the tiles in pixels, a multiple of 4, and µm per pixel: 128 µm by default.
    min_cells
        So many cells are in each tile; has no meaning without cells.
    split_key
        Column of ``.obs`` of the cells with training and test cells, as of :func:`stdistill.pp.split_strips`; the
        default need not be there. Cells of the buffer count with the nearest cell that is in either. Tiles across the
        border are left out.
    image_key
        Name of the H&E.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    tiles_key
        Name of the table of tiles. Cells may be in tiles of several kinds, under several names.
    table_key
        Name of the table of cells. Where there is no table at all, tiles are laid over ``shapes["tissue"]``, or over
        what :func:`stdistill.pp.find_tissue` finds.
    copy
        Return a copy with the tiles, which shares all elements but the tables, instead of writing to `data`.

    Returns
    -------
    `None`, or the copy. Written are

    ``shapes["{tiles_key}_squares"]``
        The m tiles, in µm, in all coordinate systems of the image and in ``"um"``; their index counts from 1.
    ``tables[tiles_key]``
        One row a tile, ``"tile-1"`` …, row by row on the H&E, linked to the shapes by ``.obs["instance_id"]``: ``.X``
        (m, genes) CSR float32, the sum over its cells; ``.obs["n_cells"]``; ``.obs["split"]``, ``"train"`` or
        ``"test"``, where there is a split; ``.obsm["spatial"]`` (m, 2), centres in µm; ``.uns["stdistill"]["tiles"]``,
        the parameters, numbers and shares.
    ``tables[table_key].obs["tile"]``, ``.obs["tile_place"]``
        Which tile a cell is in, by its number from 1, and in which of its 4 × 4 squares, 0 … 15, row by row as the H&E
        shows them; missing where a cell is in none. Of another `tiles_key` ``"{tiles_key}_tile"`` and
        ``"{tiles_key}_tile_place"``.

    Tiles of an earlier call are replaced. Where the same squares hold the same cells, all that was computed for them
    stays.

    Raises
    ------
    TypeError
        When `data` is an AnnData, which holds no image.
    KeyError
        When the image, the split or the table of cells is not there.
    ValueError
        When the image is smaller than a tile, no tile has enough cells or tissue, the table annotates several slides,
        cells and image are not aligned, µm are not known, an element or a column of these names is of something else,
        or other tiles were laid before and hold what would be lost, such as features.

    Warns
    -----
    UserWarning
        When ``.X`` of the cells holds no counts, or no tile of the training or of the test is left.

    See Also
    --------
    embed_tiles : describe tiles by an image encoder.
    stdistill.pl.tiles : draw them.

    Notes
    -----
    Tiles of 256 px at 0.5 µm per pixel, in 1, 2 × 2 and 4 × 4 parts: Jeong et al. 2025, section 3 (SIGMMA). Our choice
    are the grid, which begins at the upper left of the cells (or the tissue), `min_cells`, and tiles over tissue: those
    of which at least half is. A cell is in the tile that its centre is in; of an edge the square to its right, or below
    it.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=400))
    >>> sd.pp.tiles(sdata, tile_px=128)
    >>> sdata["tiles"].obs.columns.tolist()
    ['n_cells', 'region', 'instance_id']
    """
    check_integer(tile_px, "tile_px", minimum=PER_SIDE * MIN_PLACE_PX)
    if tile_px % PER_SIDE:
        msg = f"tile_px must be a multiple of {PER_SIDE}, the smallest squares along a side, found {tile_px}."
        raise ValueError(msg)
    check_positive(mpp, "mpp")
    check_integer(min_cells, "min_cells", minimum=1)
    check_name(tiles_key, "tiles_key")
    data = get_sdata(data, table_key)
    check_free(data, tiles_key)
    cells = _find_cells(data, table_key)
    if cells is None:
        found = _over_tissue(data, image_key, tile_px, mpp)
        counts, genes = csr_matrix((len(found.laid.corners), 0), dtype=np.float32), pd.DataFrame(index=pd.Index([]))
    else:
        check_columns(cells, tiles_key)
        frame = _find_frame(data, cells, image_key, coordinate_system, table_key, mpp)
        split = get_split(cells, split_key)
        found = _over_cells(cells, frame, split, tile_px, mpp, min_cells)
        counts, genes = _sum_counts(cells, found.laid), cells.var.copy()
    laid, n_tiles = found.laid, len(found.laid.corners)
    table = make_table(laid, found.frame, tiles_key, counts, genes)
    if copy:
        copied = {table_key: cells, tiles_key: data.tables.get(tiles_key)}
        data = share_elements(data, **{key: one.copy() for key, one in copied.items() if one is not None})
    write_tiles(
        data,
        table,
        laid,
        found.frame,
        tiles_key,
        tile_px=tile_px,
        mpp=mpp,
        tile_um=laid.side * found.frame.mpp,
        min_cells=min_cells,
        image_key=image_key,
        table_key=None if cells is None else table_key,
        split_key=None if cells is None else find_split_key(cells, split_key),
        n_tiles=n_tiles,
        n_cells=int(laid.n_cells.sum()),
        share_cells=None if cells is None else float((laid.tile != NOWHERE).mean()),
        **{f"share_{group}": float((laid.groups == code).mean()) for code, group in _groups(laid)},
    )
    if cells is not None:
        write_places(data.tables[table_key], laid, tiles_key)
    logger.info(
        'Wrote tables["%s"]: %d tiles of %.0f µm.%s', tiles_key, n_tiles, laid.side * found.frame.mpp, found.say
    )
    return data if copy else None


class _Found(NamedTuple):
    """Tiles, where they lie, and what is to be said of them."""

    laid: LaidTiles
    frame: HEFrame
    say: str


def _groups(laid: LaidTiles) -> list[tuple[int, str]]:
    return list(enumerate(GROUPS)) if (laid.groups != NOWHERE).any() else []


def _find_cells(sdata: SpatialData, table_key: str) -> AnnData | None:
    """Return the table of cells; `None` where there is none at all."""
    others = [name for name, table in sdata.tables.items() if not read_record(table, STEP)]
    if table_key == schema.TABLE and not others:
        return None
    check_key(table_key, others, "a table of cells of the SpatialData", argument="table_key")
    return sdata.tables[table_key]


def _find_frame(
    sdata: SpatialData, cells: AnnData, image_key: str, coordinate_system: str | None, table_key: str, mpp: float
) -> HEFrame:
    """Find where the cells lie on the H&E, of which there is one."""
    region_key = cells.uns.get("spatialdata_attrs", {}).get("region_key")
    regions = cells.obs[region_key].dropna().unique().tolist() if region_key in cells.obs else []
    if len(regions) > 1:
        msg = (
            f"The table {table_key!r} annotates {len(regions)} regions ({', '.join(map(repr, regions))}), and tiles "
            "are laid over one slide: pass the slides one by one, each as a SpatialData of its own."
        )
        raise ValueError(msg)
    frames = he_frames(sdata, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    check_placement(sdata, frames, table_key)
    check_crop_scale(frames, mpp)
    return frames[0]


def _over_cells(
    cells: AnnData, frame: HEFrame, split: pd.Series | None, tile_px: int, mpp: float, min_cells: int
) -> _Found:
    """Lay tiles over the cells on the image."""
    px = frame.to_px(get_centers(cells)[frame.cells])
    on_image = frame.contains(px)
    if not on_image.any():
        msg = f"No cell lies on the image {frame.image_key!r}: check its alignment with sd.get.he_pixels."
        raise ValueError(msg)
    rows, px = frame.cells[on_image], px[on_image]
    side = _side(frame, tile_px, mpp)
    grid = lay_grid(px.min(axis=0), px.max(axis=0), side, frame.shape)
    groups = np.full(len(px), NOWHERE) if split is None else _find_groups(px, split.to_numpy()[rows])
    laid = tile_cells(grid, px, groups, min_cells=min_cells, per_side=PER_SIDE)
    if not len(laid.corners):
        fullest = np.bincount(np.maximum(grid.tiles_of(px), 0)).max()
        msg = (
            f"No tile of {side * frame.mpp:.0f} µm is left: {laid.n_sparse} have fewer than min_cells={min_cells} "
            f"cells (the fullest has {fullest}), and {laid.n_across} lie across the border of the split. Lay larger or "
            "smaller tiles (tile_px=, mpp=), ask for fewer cells, or give split_key=None."
        )
        raise ValueError(msg)
    say = f" {(laid.tile != NOWHERE).sum()} of {cells.n_obs} cells are in them."
    if laid.n_sparse:
        say += f" {laid.n_sparse} others have fewer than {min_cells} cells."
    if split is not None:
        numbers = {group: int((laid.groups == code).sum()) for code, group in enumerate(GROUPS)}
        say += f" {', '.join(f'{n} {group}' for group, n in numbers.items())}; {laid.n_across} across the border of "
        say += "the split were left out."
        _warn_of_empty_group(numbers, laid)
    tile, place = np.full(cells.n_obs, NOWHERE), np.full(cells.n_obs, NOWHERE, dtype=np.int8)
    tile[rows], place[rows] = laid.tile, laid.place
    return _Found(replace(laid, tile=tile, place=place), frame, say)


def _find_groups(px: Floats, split: npt.NDArray[np.object_]) -> Integers:
    """Give each cell the number of its group; in the buffer that of the nearest cell in training or test."""
    codes = np.select([split == group for group in GROUPS], range(len(GROUPS)), NOWHERE)
    return nearest_groups(px, codes, split == schema.BUFFER)


def _warn_of_empty_group(numbers: dict[str, int], laid: LaidTiles) -> None:
    empty = [group for group, n in numbers.items() if not n]
    if empty:
        msg = (
            f"No {' and no '.join(empty)} tile is left; {laid.n_across} lie across the border of the split. Use fewer "
            "strips in sd.pp.split_strips, or smaller tiles."
        )
        warn(msg)


def _over_tissue(sdata: SpatialData, image_key: str, tile_px: int, mpp: float) -> _Found:
    """Lay tiles over tissue, whose outlines are there or are found."""
    import shapely

    from stdistill._slide.tissue import outline

    um_to_px = find_um_to_px(sdata, image_key)
    image = get_image(sdata, image_key)
    frame = HEFrame(image_key, np.zeros(0, dtype=np.int64), um_to_px, image_shape(image))
    side = _side(frame, tile_px, mpp)
    levels = slide_levels(image, image_key)
    if schema.TISSUE in sdata.shapes:
        outlines = find_tissue_on(sdata, image_key, levels, schema.TISSUE).outlines
    else:
        overview, seen = see_tissue(levels, frame.mpp, image_key)
        outlines = outline(seen.tissue, overview.factor)
    bounds = np.clip(shapely.total_bounds(outlines), 0, np.tile(frame.shape[::-1], 2) - 1)
    grid = lay_grid(bounds[:2], bounds[2:], side, frame.shape)
    corners = grid.corners()
    kept = corners[share_covered(corners, side, np.asarray(outlines)) >= MIN_TISSUE_SHARE]
    if not len(kept):
        msg = (
            f"No tile of {side * frame.mpp:.0f} µm is tissue by half of it, on the image {image_key!r}: lay smaller "
            'tiles (tile_px=, mpp=), or look at shapes["tissue"] of sd.pp.find_tissue.'
        )
        raise ValueError(msg)
    none = np.zeros(0, dtype=np.int64)
    laid = LaidTiles(
        side, kept, np.zeros(len(kept), int), np.full(len(kept), NOWHERE), none, none.astype(np.int8), 0, 0
    )
    return _Found(laid, frame, " There is no table of cells: they lie over tissue.")


def _side(frame: HEFrame, tile_px: int, mpp: float) -> int:
    """Return the side of tiles in pixels of the image, which must be as large."""
    side = frame.native_crop_px(tile_px, mpp)
    height, width = frame.shape
    if side > min(height, width):
        msg = (
            f"The image {frame.image_key!r} is smaller than a tile: it has {width} × {height} pixels, and a tile of "
            f"{tile_px} px at {mpp:g} µm per pixel takes {side}. Give a smaller tile_px= or mpp=."
        )
        raise ValueError(msg)
    return side


def _sum_counts(cells: AnnData, laid: LaidTiles) -> csr_matrix:
    """Sum what the cells of each tile hold in ``.X``, whatever it is; none without genes."""
    n_tiles = len(laid.corners)
    if cells.X is None:
        return csr_matrix((n_tiles, cells.n_vars), dtype=np.float32)
    counts = cells.X[:] if cells.isbacked else cells.X
    check_sparse(counts, ".X", READ_AGAIN)
    sums = sum_counts(counts, laid.tile, n_tiles)
    if not (np.rint(sums.data) == sums.data).all() or (sums.data < 0).any():
        warn(
            ".X of the cells holds no counts (fractions, negative or missing values): .X of the tiles is the sum over "
            "their cells all the same. Put raw counts into .X, and lay the tiles again."
        )
    return sums
