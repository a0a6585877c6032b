from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csc_matrix, csr_matrix
from spatialdata import SpatialData

import stdistill as sd
from stdistill._table.tiles import check_groups, get_tiles, sum_counts, tile_columns, tiles_of_cells

SCALED = np.diag([0.5 / 0.2125, 0.5 / 0.2125, 1])
"""Pixels of the H&E are half a µm."""
SMALL = {"tile_px": 32, "mpp": 0.5}
CORNERS = ((20.5, 30.5), (119.5, 40))

Make = Callable[..., SpatialData]


def at_px(make_slide: Make, *places: tuple[float, float]) -> SpatialData:
    return make_slide(np.array(places) / 2, he_to_global=SCALED)


def test_get_tiles(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS)
    with pytest.raises(
        KeyError, match=r"tiles_key='tiles' is not a table of tiles; there is: 'table'\. Lay them with sd\.pp"
    ):
        get_tiles(slide, "tiles")
    with pytest.raises(ValueError, match=r"The table 'table' is not one of tiles, which sd\.pp\.tiles writes"):
        get_tiles(slide, "table")
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    assert get_tiles(slide, "tiles") is slide["tiles"]
    assert get_tiles(slide["tiles"], "whatever") is slide["tiles"]
    with pytest.raises(ValueError, match="The table is not one of tiles"):
        get_tiles(slide["table"], "tiles")


def test_tiles_of_filtered_cells(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS, (52, 30), (21, 31))
    cells = slide["table"]
    with pytest.raises(KeyError, match=r"'tile' is not a column of \.obs of the cells.*sd\.pp\.tiles"):
        tiles_of_cells(cells, cells)
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    tiles = slide["tiles"][[2, 0]]
    where = tiles_of_cells(cells[[3, 2, 1]], tiles)
    assert where.tile.tolist() == [1, -1, 0]
    assert where.place.tolist() == [0, -1, 4]
    with pytest.warns(UserWarning, match=r"1 of 3 tiles have fewer cells .* \(1 of 2\).*Run sd\.pp\.tiles again"):
        tiles_of_cells(cells[1:], slide["tiles"])
    cells.obs["tile"] = pd.array([1, 1, 2, 1], dtype="Int32")
    with pytest.raises(ValueError, match="More cells are in some tiles"):
        tiles_of_cells(cells, slide["tiles"])


def test_columns_are_named_by_the_tiles() -> None:
    assert tile_columns("tiles") == ("tile", "tile_place")
    assert tile_columns("fine") == ("fine_tile", "fine_tile_place")


def test_cells_of_several_kinds_of_tiles(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS, (52, 30), (21, 31))
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    sd.pp.tiles(slide, min_cells=1, tile_px=64, mpp=0.5, tiles_key="coarse")
    assert tiles_of_cells(slide["table"], slide["tiles"]).tile.tolist() == [0, 2, 1, 0]
    where = tiles_of_cells(slide["table"], slide["coarse"], "coarse")
    assert where.tile.tolist() == [0, 1, 0, 0]
    assert where.place.tolist() == [0, 2, 2, 0]


@pytest.mark.parametrize("form", [np.asarray, csr_matrix, csc_matrix])
@pytest.mark.parametrize("dtype", [np.int32, np.float64, np.uint8])
def test_sums_equal_a_loop(form: Callable[..., Any], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(2, (500, 7)).astype(dtype)
    tile = rng.integers(-1, 9, 500)
    sums = sum_counts(form(counts), tile, 10)
    assert isinstance(sums, csr_matrix)
    assert sums.dtype == np.float32
    expected = [counts[tile == number].sum(axis=0, dtype=np.int64) for number in range(10)]  # the last has no cell
    np.testing.assert_array_equal(sums.toarray(), expected)


def test_a_table_that_is_only_named_so(make_cells: Callable[..., AnnData]) -> None:
    slide = SpatialData(tables={"tiles": make_cells(3)})
    with pytest.raises(ValueError, match="'tiles' is not one of tiles"):
        get_tiles(slide, "tiles")
    with pytest.raises(TypeError, match="Expected an AnnData or a SpatialData"):
        get_tiles("slide.zarr", "tiles")  # type: ignore[arg-type]


def test_cells_that_moved_since(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS, (52, 30), (21, 31))
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    cells = slide["table"].copy()
    cells.obsm["spatial"] = np.round(cells.obsm["spatial"])
    tiles_of_cells(cells, slide["tiles"])
    cells.obsm["spatial"] = cells.obsm["spatial"][::-1]
    with pytest.raises(ValueError, match=r"2 of 4 cells do not lie in the tiles of 16 µm .* Run sd\.pp\.tiles again"):
        tiles_of_cells(cells, slide["tiles"])


def test_a_split_that_was_made_again(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS, (52, 30), (21, 31))
    slide["table"].obs["split"] = pd.Categorical(["train", "test", "train", "buffer"])
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    cells, tiles = slide["table"], slide["tiles"]
    where = tiles_of_cells(cells, tiles).tile
    check_groups(cells, tiles, where, "split")
    cells.obs["split"] = pd.Categorical(["test", "test", "train", "buffer"])
    with pytest.raises(ValueError, match=r"1 cells are in another group .* Run sd\.pp\.tiles and sd\.pp\.embed_tiles"):
        check_groups(cells, tiles, where, "split")
    check_groups(cells, tiles, where, None)
