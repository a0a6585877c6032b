from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import spatialdata
from scipy.sparse import csr_matrix
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel
from spatialdata.transformations import Identity, Scale, get_transformation, set_transformation

import stdistill as sd
from stdistill._table.tiles import get_tiles, tiles_of_cells

HALF = 0.5 / 0.2125
SCALED = np.diag([HALF, HALF, 1])
"""Pixels of the H&E are half a µm."""
SMALL = {"tile_px": 32, "mpp": 0.5}

Make = Callable[..., SpatialData]


def at_px(make_slide: Make, *places: tuple[float, float], **options: Any) -> SpatialData:
    """Cells at these pixels of an H&E of half a µm per pixel, whose axes are those of µm."""
    return make_slide(np.array(places) / 2, he_to_global=SCALED, **options)


CORNERS = ((20.5, 30.5), (119.5, 40))
"""These two make the grid begin at (20, 30), and be four tiles of 32 px wide."""


def test_hand_worked_positions(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS, (51.9, 30), (52, 30), (28, 38), (43.9, 61.9), (21, 62), (60, 46))
    slide["table"].X = np.arange(16, dtype=np.float32).reshape(8, 2)
    assert sd.pp.tiles(slide, min_cells=1, **SMALL) is None
    cells, tiles = slide["table"], slide["tiles"]
    assert cells.obs["tile"].tolist() == [1, 3, 1, 2, 1, 1, 4, 2]
    assert cells.obs["tile_place"].tolist() == [0, 4, 3, 0, 5, 14, 0, 9]
    assert (cells.obs["tile"].dtype, cells.obs["tile_place"].dtype) == (pd.Int32Dtype(), pd.Int8Dtype())
    assert tiles.obs_names.tolist() == ["tile-1", "tile-2", "tile-3", "tile-4"]
    assert tiles.obs["n_cells"].tolist() == [4, 2, 1, 1]
    assert tiles.obs["n_cells"].dtype == np.int32
    assert "split" not in tiles.obs
    # Corners (20, 30), (52, 30), (116, 30) and (20, 62) in pixels.
    np.testing.assert_allclose(tiles.obsm["spatial"], (np.array([[20, 30], [52, 30], [116, 30], [20, 62]]) + 16) / 2)
    assert isinstance(tiles.X, csr_matrix)
    assert tiles.X.dtype == np.float32
    assert tiles.X.toarray().tolist() == [[0 + 4 + 8 + 10, 1 + 5 + 9 + 11], [6 + 14, 7 + 15], [2, 3], [12, 13]]
    assert tiles.var_names.equals(cells.var_names)
    squares = slide["tiles_squares"]
    assert squares.index.tolist() == tiles.obs["instance_id"].tolist() == [1, 2, 3, 4]
    assert squares.geometry.iloc[0].bounds == pytest.approx((10, 15, 26, 31))
    record = tiles.uns["stdistill"]["tiles"]
    expected = {"tile_px": 32, "mpp": 0.5, "min_cells": 1, "image_key": "he", "table_key": "table", "n_tiles": 4}
    assert expected.items() <= record.items()
    assert (record["n_cells"], record["share_cells"]) == (8, 1)
    assert record["tile_um"] == pytest.approx(16)
    assert not {"split_key", "share_train"} & record.keys()


ALIGNMENTS = {
    "as it is": SCALED,
    "turned by 90°": [[0, 1.25, 4], [-1.25, 0, 320], [0, 0, 1]],
    "turned by 30°": [[1.04, -0.6, 30], [0.6, 1.04, -80], [0, 0, 1]],
    "flipped": [[-1, 0, 290], [0, 1, 0], [0, 0, 1]],
    "scaled": [[0.8, 0, 5], [0, 0.8, 2], [0, 0, 1]],
}


@pytest.mark.filterwarnings("ignore:Only:UserWarning")
@pytest.mark.parametrize("kind", ["circles", "labels"])
@pytest.mark.parametrize("name", ALIGNMENTS)
def test_tiles_lie_in_the_frame_of_the_image(make_slide: Make, name: str, kind: str) -> None:
    """Squares are whole pixels of the image in every system, and each cell is in the one that its pixel is in."""
    slide = make_slide(300, he_to_global=ALIGNMENTS[name], kind=kind)
    pixels = sd.get.he_pixels(slide)
    sd.pp.tiles(slide, tile_px=32, mpp=float(pixels["mpp"].iloc[0]) * 1.4, min_cells=2)
    squares, tiles, cells = slide["tiles_squares"], slide["tiles"], slide["table"]
    side = round(32 * 1.4)
    for system in ("global", "um"):
        if system not in get_transformation(slide["he"], get_all=True):
            continue
        found = spatialdata.transform(squares, to_coordinate_system=system)
        to_px = get_transformation(slide["he"], system).inverse().to_affine_matrix(("x", "y"), ("x", "y"))
        corners = np.stack([np.asarray(square.exterior.coords)[:4] for square in found.geometry])
        corners = corners @ to_px[:2, :2].T + to_px[:2, 2]
        np.testing.assert_allclose(corners, corners.round(), atol=1e-6)
        np.testing.assert_allclose(corners[:, 2] - corners[:, 0], side, atol=1e-6)
    left_top = corners[:, 0].round()  # as the image shows them
    assert (left_top >= 0).all()
    assert (left_top + side <= (300, 400)).all()
    on_image = pixels[pixels["on_image"]]
    assert (left_top - np.floor(on_image[["x", "y"]].min().to_numpy())) % side == pytest.approx(0)
    np.testing.assert_allclose(tiles.obsm["spatial"], shapely.get_coordinates(squares.geometry.centroid), atol=1e-6)
    for x, y, tile, place in zip(pixels["x"], pixels["y"], cells.obs["tile"], cells.obs["tile_place"], strict=True):
        inside = [n for n, (a, b) in enumerate(left_top, 1) if a <= x < a + side and b <= y < b + side]
        assert inside == ([] if pd.isna(tile) else [tile])
        if inside:
            a, b = left_top[inside[0] - 1]
            assert place == 4 * int((y - b) * 4 / side) + int((x - a) * 4 / side)
    counted = cells.obs["tile"].value_counts().reindex(tiles.obs["instance_id"])
    assert counted.tolist() == tiles.obs["n_cells"].tolist()
    assert counted.min() >= 2


def test_tables_and_shapes_are_linked_also_on_disk(make_slide: Make, tmp_path: Path) -> None:
    slide = make_slide(200, he_to_global=SCALED)
    slide["table"].obs["split"] = pd.Categorical(np.where(slide["table"].obsm["spatial"][:, 0] < 30, "train", "test"))
    sd.pp.tiles(slide, min_cells=2, **SMALL)
    slide["table"].write_h5ad(tmp_path / "cells.h5ad")
    slide["tiles"].write_h5ad(tmp_path / "tiles.h5ad")
    slide.write(tmp_path / "slide.zarr")
    read = spatialdata.read_zarr(tmp_path / "slide.zarr")
    assert read["tiles_squares"].geometry.geom_equals_exact(slide["tiles_squares"].geometry, 1e-9).all()
    stored = [
        (read["table"], read["tiles"]),
        (ad.read_h5ad(tmp_path / "cells.h5ad"), ad.read_h5ad(tmp_path / "tiles.h5ad")),
    ]
    for cells, tiles in stored:
        assert cells.obs["tile"].equals(slide["table"].obs["tile"])
        assert cells.obs["tile_place"].dtype == pd.Int8Dtype()
        assert (tiles.X != slide["tiles"].X).nnz == 0
        assert tiles.obs["split"].equals(slide["tiles"].obs["split"])
        assert tiles.obs["n_cells"].equals(slide["tiles"].obs["n_cells"])
        assert tiles.uns["stdistill"]["tiles"].keys() == slide["tiles"].uns["stdistill"]["tiles"].keys()
        np.testing.assert_array_equal(
            tiles_of_cells(cells, tiles).tile, tiles_of_cells(slide["table"], slide["tiles"]).tile
        )
    assert (
        spatialdata.get_element_instances(read["tiles_squares"]).tolist() == read["tiles"].obs["instance_id"].tolist()
    )
    _, joined = spatialdata.join_spatialelement_table(
        sdata=read, spatial_element_names="tiles_squares", table_name="tiles", how="left", match_rows="left"
    )
    assert joined.obs_names.equals(read["tiles"].obs_names)
    sd.pp.tiles(read, min_cells=2, **SMALL)  # it is known whose they are


def test_tiles_across_the_border_are_left_out(make_slide: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Three columns of tiles: training; both; test, with cells of the buffer near either."""
    x = [21, 30, 40, 50, 60, 70, 100, 110, 52 + 31]
    split = ["train", "train", "buffer", "train", "train", "test", "test", "buffer", "test"]
    slide = at_px(make_slide, *[(at, 30) for at in x])
    slide["table"].obs["strips"] = pd.Categorical(split)
    with caplog.at_level(logging.INFO, "stdistill"):
        sd.pp.tiles(slide, min_cells=1, split_key="strips", **SMALL)
    assert "1 across the border of the split were left out" in caplog.text
    tiles = slide["tiles"]
    assert tiles.obs["split"].tolist() == ["train", "test"]
    assert tiles.obs["split"].cat.categories.tolist() == ["train", "test"]
    assert tiles.obs["n_cells"].tolist() == [4, 2]
    assert slide["table"].obs["tile"].isna().tolist() == [False] * 4 + [True] * 2 + [False] * 2 + [True]
    record = tiles.uns["stdistill"]["tiles"]
    assert (record["split_key"], record["share_train"], record["share_test"]) == ("strips", 0.5, 0.5)
    sd.pp.tiles(slide, min_cells=1, split_key=None, tiles_key="all", **SMALL)
    assert slide["all"].n_obs == 3
    assert "split" not in slide["all"].obs


def test_no_pixel_and_no_cell_is_in_training_and_test(bundle: Path) -> None:
    slide = sd.pp.read_xenium(bundle)
    sd.pp.split_strips(slide, crop_px=64, mpp=0.3)
    sd.pp.tiles(slide, tile_px=64, min_cells=3)
    tiles, cells = slide["tiles"], slide["table"]
    where = tiles_of_cells(cells, tiles)
    of_tile = tiles.obs["split"].astype(object).to_numpy()[where.tile]
    known = (where.tile >= 0) & (cells.obs["split"] != "buffer").to_numpy()
    assert (of_tile[known] == cells.obs["split"].astype(object).to_numpy()[known]).all()
    assert {"train", "test"} == set(tiles.obs["split"])
    both = slide["tiles_squares"].geometry.to_numpy()
    tree = shapely.STRtree(both)
    one, other = tree.query(both, predicate="overlaps")
    assert (shapely.area(shapely.intersection(both[one], both[other])) < 1e-6).all()
    sums = slide["table"].X[where.tile >= 0].sum(axis=0)
    np.testing.assert_array_equal(np.asarray(tiles.X.sum(axis=0)).ravel(), np.asarray(sums).ravel())


def test_a_group_without_a_tile_is_warned_of(make_slide: Make) -> None:
    slide = at_px(make_slide, (20, 30), (21, 30), (60, 30), (61, 30))
    slide["table"].obs["split"] = pd.Categorical(["train", "train", "test", "train"])
    with pytest.warns(UserWarning, match="No test tile is left; 1 lie across the border"):
        sd.pp.tiles(slide, min_cells=1, **SMALL)
    assert slide["tiles"].obs["split"].tolist() == ["train"]
    slide["table"].obs["split"] = pd.Categorical(["train", "test", "test", "train"])
    with pytest.raises(ValueError, match=r"No tile of 16 µm is left: 0 have fewer .* and 2 lie across the border"):
        sd.pp.tiles(slide, min_cells=1, tiles_key="other", **SMALL)


def test_the_split_goes_by_any_name(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS)
    with pytest.raises(KeyError, match=r"split_key='strips' is not a column of \.obs.*split_strips"):
        sd.pp.tiles(slide, min_cells=1, split_key="strips", **SMALL)


def test_one_slide(make_slide: Make) -> None:
    two = [at_px(make_slide, *CORNERS) for _ in range(2)]
    joined = spatialdata.concatenate({"a": two[0], "b": two[1]}, concatenate_tables=True)
    with pytest.raises(ValueError, match=r"annotates 2 regions \('cells-a', 'cells-b'\).*pass the slides one by one"):
        sd.pp.tiles(joined, image_key="he-a", **SMALL)


def test_a_slide_smaller_than_a_tile(make_slide: Make) -> None:
    slide = make_slide(he_to_global=SCALED)
    with pytest.raises(ValueError, match=r"'he' is smaller than a tile: it has 300 × 400 pixels, .* takes 512"):
        sd.pp.tiles(slide, tile_px=512)
    assert set(slide.tables) == {"table"}
    sd.pp.tiles(slide, tile_px=300, min_cells=1)  # as wide as the image
    assert slide["tiles"].n_obs == 1


def test_cells_off_the_image_are_in_no_tile(make_slide: Make) -> None:
    slide = at_px(make_slide, (-20, 10), (4, 10), (5, 10), (299, 10), (301, 10), (290, 390), (10, 395))
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    # From (4, 10) on 9 columns and 12 rows fit: to 292 and 394.
    assert slide["table"].obs["tile"].fillna(0).tolist() == [0, 1, 1, 0, 0, 2, 0]
    with pytest.raises(ValueError, match="No cell lies on the image 'he'"):
        sd.pp.tiles(at_px(make_slide, (-20, 10), (-30, 10)), min_cells=1, **SMALL)


def test_too_few_cells(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS, (21, 31))
    with pytest.raises(ValueError, match=r"2 have fewer than min_cells=10 cells \(the fullest has 2\)"):
        sd.pp.tiles(slide, **SMALL)


def test_values_that_are_no_counts_are_summed_and_said(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS, (21, 31))
    slide["table"].X = np.array([[0.5, 1], [2, 3], [0.25, -1]], dtype=np.float32)
    with pytest.warns(UserWarning, match=r"\.X of the cells holds no counts"):
        sd.pp.tiles(slide, min_cells=1, **SMALL)
    assert slide["tiles"].X.toarray().tolist() == [[0.75, 0], [2, 3]]


def test_sparse_integers(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS, (21, 31))
    slide["table"].X = csr_matrix(np.array([[1, 0], [0, 3], [4, 70_000]]))
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    assert slide["tiles"].X.dtype == np.float32
    assert slide["tiles"].X.toarray().tolist() == [[5, 70_000], [0, 3]]


def test_a_copy(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS)
    copy = sd.pp.tiles(slide, min_cells=1, copy=True, **SMALL)
    assert copy is not None
    assert "tiles" not in slide.tables
    assert "tile" not in slide["table"].obs
    assert copy["tiles"].n_obs == 2
    assert copy["he"] is slide["he"]
    copy["tiles"].obsm["X_he_macro"] = np.ones((2, 3))
    again = sd.pp.tiles(copy, min_cells=1, copy=True, **SMALL)
    assert again is not None
    again["tiles"].obsm["X_he_macro"][:] = 0
    assert copy["tiles"].obsm["X_he_macro"].all()


def test_what_was_computed_for_the_same_tiles_stays(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS, (21, 31))
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    slide["tiles"].obsm["X_he_macro"] = np.arange(6).reshape(2, 3)
    slide["tiles"].uns["stdistill"]["embed_tiles"] = {"encoder": "mine"}
    slide["table"].X = 2 * slide["table"].X
    slide["table"].obs["split"] = pd.Categorical(["train", "test", "train"])
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    tiles = slide["tiles"]
    assert tiles.obsm["X_he_macro"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tiles.uns["stdistill"]["embed_tiles"] == {"encoder": "mine"}
    assert tiles.X.toarray().tolist() == [[4, 4], [2, 2]]  # what is written is new
    assert tiles.obs["split"].tolist() == ["train", "test"]
    sd.pp.tiles(slide, min_cells=1, split_key=None, **SMALL)
    assert "split" not in slide["tiles"].obs
    assert "X_he_macro" in slide["tiles"].obsm


def test_other_tiles_take_no_results_with_them(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS, (21, 31))
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    sd.pp.tiles(slide, min_cells=2, **SMALL)  # nothing was made of the first
    assert slide["tiles"].n_obs == len(slide["tiles_squares"]) == 1
    slide["tiles"].obsm["X_he_macro"] = np.ones((1, 3))
    before = slide["table"].obs.copy()
    with pytest.raises(ValueError, match=r"are not these, and hold \.obsm\['X_he_macro'\].*del sdata\.tables"):
        sd.pp.tiles(slide, min_cells=1, **SMALL)
    assert slide["table"].obs.equals(before)
    assert slide["tiles"].n_obs == 1
    sd.pp.tiles(slide, min_cells=1, tiles_key="more", **SMALL)
    assert slide["table"].obs["more_tile"].tolist() == [1, 2, 1]
    assert slide["table"].obs["more_tile_place"].notna().all()
    assert slide["table"].obs["tile"].equals(before["tile"])
    del slide.tables["tiles"], slide.shapes["tiles_squares"]
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    assert slide["tiles"].n_obs == 2


def test_nothing_of_others_is_overwritten(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS)
    for key, name in (("he", "he"), ("table", "table"), ("cells", "cells")):
        with pytest.raises(ValueError, match=f"an element '{name}' already, which sd.pp.tiles did not write"):
            sd.pp.tiles(slide, min_cells=1, tiles_key=key, **SMALL)
    slide.shapes["tiles_squares"] = ShapesModel.parse(np.ones((1, 2)), geometry=0, radius=1.0)
    with pytest.raises(ValueError, match="an element 'tiles_squares' already"):
        sd.pp.tiles(slide, min_cells=1, **SMALL)
    del slide.shapes["tiles_squares"]
    slide["table"].obs["tile"] = ["a", "b"]
    with pytest.raises(ValueError, match=r"\.obs\['tile'\] of the cells is there already.*rename it"):
        sd.pp.tiles(slide, min_cells=1, **SMALL)
    sd.pp.tiles(slide, min_cells=1, tiles_key="mine", **SMALL)
    assert slide["table"].obs["tile"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile_px": 30}, "tile_px must be at least 32"),
        ({"tile_px": 50}, "tile_px must be a multiple of 4"),
        ({"mpp": 0}, "mpp must be positive"),
        ({"min_cells": 0}, "min_cells must be at least 1"),
        ({"tiles_key": "a/b"}, "tiles_key must be a name"),
    ],
)
def test_bad_arguments(make_slide: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sd.pp.tiles(make_slide(he_to_global=SCALED), **changes)


def test_no_image_and_no_table(make_slide: Make, make_cells: Callable[..., ad.AnnData]) -> None:
    slide = make_slide(he_to_global=SCALED)
    with pytest.raises(TypeError, match="An AnnData holds no image"):
        sd.pp.tiles(make_cells(5))  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="image_key='nothing'"):
        sd.pp.tiles(slide, image_key="nothing")
    with pytest.raises(KeyError, match="table_key='cells' is not a table of cells"):
        sd.pp.tiles(slide, table_key="cells")
    del slide.images["he"]
    with pytest.raises(KeyError, match="image_key='he'"):
        sd.pp.tiles(slide)


@pytest.fixture
def he_alone() -> SpatialData:
    """Tissue from (200, 100) to (712, 612) px, at 2 µm per pixel, with a hole of a tile; no cells."""
    pixels = np.full((3, 1000, 1000), 240, np.uint8)
    pixels[:, 100:612, 200:712] = np.array([200, 130, 180], np.uint8)[:, None, None]
    image = Image2DModel.parse(
        pixels, dims=("c", "y", "x"), transformations={"global": Identity(), "um": Scale([2, 2], axes=("x", "y"))}
    )
    return SpatialData(images={"he": image})


def test_tiles_over_outlines_of_tissue(he_alone: SpatialData) -> None:
    """64 px of half a µm are 16 of the image: outlines of half tiles decide, holes are no tissue."""
    tissue = shapely.Polygon(shapely.box(100, 60, 196, 124).exterior, [shapely.box(132, 60.5, 164, 92).exterior])
    he_alone.shapes["tissue"] = ShapesModel.parse(
        gpd.GeoDataFrame(geometry=[tissue, shapely.box(300, 60, 315, 92)]),
        transformations={"um": Identity()},
    )
    sd.pp.tiles(he_alone, tile_px=64, mpp=0.5)
    tiles = he_alone["tiles"]
    # From (50, 30) px on, 16 px a tile: two rows of three less the hole; of the other piece less than half.
    corners = [[50, 30], [82, 30], [50, 46], [66, 46], [82, 46]]
    np.testing.assert_allclose(tiles.obsm["spatial"], (np.array(corners) + 8) * 2)
    assert tiles.shape == (5, 0)
    assert tiles.obs["n_cells"].tolist() == [0] * 5
    assert not {"table_key", "split_key", "share_cells"} & tiles.uns["stdistill"]["tiles"].keys()


@pytest.mark.filterwarnings("ignore:zarr v3 autosharding")
def test_tiles_over_tissue_that_is_found(he_alone: SpatialData, tmp_path: Path) -> None:
    sd.pp.tiles(he_alone, tile_px=256, mpp=0.5)  # 64 px
    centres = he_alone["tiles"].obsm["spatial"] / 2
    assert 60 <= len(centres) <= 81
    assert ((centres > (200, 100)) & (centres < (712, 612))).all()
    assert not set(he_alone.shapes) - {"tiles_squares"}
    sd.pp.find_tissue(he_alone)
    first = he_alone["tiles"]
    sd.pp.tiles(he_alone, tile_px=256, mpp=0.5)
    assert he_alone["tiles"] is first  # the same ones
    he_alone.write(tmp_path / "slide.zarr")
    read = spatialdata.read_zarr(tmp_path / "slide.zarr")
    assert read["tiles"].shape == first.shape
    sd.pp.embed_tiles(read, encoder="texture")
    assert np.isfinite(read["tiles"].obsm["X_he_micro"].astype(np.float32)).all()


def test_no_tissue(he_alone: SpatialData) -> None:
    with pytest.raises(ValueError, match="No tile of 1960 µm is tissue by half of it"):
        sd.pp.tiles(he_alone, tile_px=3920, mpp=0.5)
    he_alone["he"].data[:] = 240
    with pytest.raises(ValueError, match="No tissue is seen on the image 'he'"):
        sd.pp.tiles(he_alone)


def test_nuclei_without_genes(bundle: Path) -> None:
    slide = sd.pp.read_slide(bundle / "simulated_he_image.ome.tif")
    sd.pp.detect_nuclei(slide, method="tree")
    sd.pp.tiles(slide, tile_px=128, min_cells=3)
    assert slide["tiles"].n_vars == 0
    assert slide["tiles"].obs["n_cells"].sum() == slide["table"].obs["tile"].notna().sum() > 300


def test_coordinate_systems_that_disagree(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS)
    for name in ("he", "cells"):
        set_transformation(slide[name], Identity(), "other")
    with pytest.raises(ValueError, match="coordinate_system="):
        sd.pp.tiles(slide, min_cells=1, **SMALL)
    sd.pp.tiles(slide, min_cells=1, coordinate_system="global", **SMALL)
    assert slide["tiles"].n_obs == 2


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
    cells.obs["tile"] = pd.array([1, 1, 2, 1], dtype="Int32")
    with pytest.raises(ValueError, match="More cells are in some tiles"):
        tiles_of_cells(cells, slide["tiles"])


def test_crops_of_tiles_need_no_size(make_slide: Make) -> None:
    slide = at_px(make_slide, *CORNERS)
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    (crop,) = sd.get.he_crops(slide, cells=["tile-1"], table_key="tiles")
    np.testing.assert_array_equal(crop, np.moveaxis(slide["he"].values, 0, -1)[30:62, 20:52])
