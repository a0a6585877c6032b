from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from geopandas import GeoDataFrame
from matplotlib.colors import to_rgba
from shapely import box
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel
from spatialdata.transformations import Identity, Scale

import stdistill as sd
from stdistill.pl._tiles import FILL, FILL_OF_NUMBERS, place_colors

SCALED = np.diag([0.5 / 0.2125, 0.5 / 0.2125, 1])
SMALL = {"tile_px": 64, "mpp": 0.5}


@pytest.fixture
def slide(make_slide: Callable[..., SpatialData]) -> SpatialData:
    """Tiles from pixel (10, 20) on, in µm half of that; the third has most of the cells."""
    centers = np.array([[10.2, 20.3], [80, 30], [150, 40], [151, 41], [190, 83], [12, 90]]) / 2
    slide = make_slide(centers, he_to_global=SCALED, shape=(200, 210))
    slide["table"].obs["split"] = pd.Categorical(["train", "test", "train", "train", "train", "test"])
    sd.pp.tiles(slide, min_cells=1, **SMALL)
    return slide


def test_tiles_have_their_places_and_colors(slide: SpatialData) -> None:
    on_slide, one_tile = sd.pl.tiles(slide, show=False)
    (squares,) = on_slide.collections
    drawn = [path.vertices[:4].tolist() for path in squares.get_paths()]
    faces = [tuple(color) for color in squares.get_facecolor()]
    where = {tuple(corners[0]): face for corners, face in zip(drawn, faces, strict=True)}
    train, test = to_rgba("#3f90da", FILL), to_rgba("#ffa90e", FILL)
    expected = {(5, 10): train, (37, 10): test, (69, 10): train, (5, 42): test}
    assert {(round(x), round(y)): face for (x, y), face in where.items()} == expected
    assert tuple(squares.get_edgecolor()[-1]) == (0, 0, 0, 1)  # the one that is enlarged lies over the others
    assert np.round(drawn[-1][0]).tolist() == [69, 10]
    assert on_slide.get_title() == "split"
    assert [text.get_text() for text in on_slide.get_legend().get_texts()] == ["train (2)", "test (2)"]
    x_min, x_max = on_slide.get_xlim()
    assert x_min < 5
    assert x_max > 101
    assert one_tile.get_title() == "tile-3: 3 cells"


def test_cells_lie_on_their_places(slide: SpatialData) -> None:
    _, one_tile = sd.pl.tiles(slide, show=False)
    (dots,) = one_tile.collections
    # From the corner (138, 20) on, in pixels of half a µm: a place is 16 of them wide.
    np.testing.assert_allclose(dots.get_offsets(), np.array([[12, 20], [13, 21], [52, 63]]) / 2, atol=1e-6)
    np.testing.assert_allclose(dots.get_facecolor(), place_colors()[[4, 4, 15]])
    (picture,) = one_tile.images
    np.testing.assert_array_equal(picture.get_array(), np.moveaxis(slide["he"].values, 0, -1)[20:84, 138:202])
    lines = {(line.get_linewidth(), float(line.get_xdata()[0])) for line in one_tile.lines if line.get_ydata()[0] == 0}
    assert {(0.7, 8.0), (2.2, 16.0), (0.7, 24.0)} <= lines
    assert [text.get_text() for text in one_tile.texts] == [str(place) for place in range(16)]


def test_places_have_sixteen_colors_in_four_families() -> None:
    colors = place_colors()
    assert len(np.unique(colors.round(6), axis=0)) == 16
    quarters = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]).ravel()
    strongest = [set(colors[quarters == quarter, :3].argmax(axis=1)) for quarter in range(4)]
    assert strongest == [{2}, {0}, {1}, {2}]


def test_columns_of_numbers_and_of_categories(slide: SpatialData) -> None:
    tiles = slide["tiles"]
    sd.pl.tiles(slide, color="n_cells", tile="tile-1", show=False)
    on_slide, one_tile, bar = plt.gcf().axes
    assert bar.get_ylabel() == on_slide.get_title() == "n_cells"
    assert one_tile.get_title() == "tile-1: 1 cells"
    alphas = on_slide.collections[0].get_facecolor()[:, 3]
    np.testing.assert_allclose(alphas, FILL_OF_NUMBERS)
    tiles.obs["kind"] = pd.Categorical(["a", None, "b", "a"])
    on_slide, _ = sd.pl.tiles(slide, color="kind", palette={"a": "red", "b": "blue"}, show=False)
    assert [text.get_text() for text in on_slide.get_legend().get_texts()] == ["a (2)", "b (1)", "missing (1)"]
    assert to_rgba("red", FILL) in {tuple(face) for face in on_slide.collections[0].get_facecolor()}
    del tiles.obs["split"]
    on_slide, _ = sd.pl.tiles(slide, show=False)
    assert on_slide.get_title() == "4 tiles"
    assert on_slide.get_legend() is None


def test_what_is_not_there(slide: SpatialData, make_cells: Callable[..., ad.AnnData]) -> None:
    with pytest.raises(KeyError, match=r"color='nothing' is not a column of \.obs of the tiles"):
        sd.pl.tiles(slide, color="nothing")
    with pytest.raises(KeyError, match="'tile-99'"):
        sd.pl.tiles(slide, tile="tile-99")
    with pytest.raises(KeyError, match="colour map"):
        sd.pl.tiles(slide, color="n_cells", cmap="nothing")
    with pytest.raises(KeyError, match=r"is not a table of tiles.*sd\.pp\.tiles"):
        sd.pl.tiles(slide, tiles_key="others")
    slide["tiles"].obs["empty"] = np.nan
    with pytest.raises(ValueError, match="is missing for all of the 4 tiles"):
        sd.pl.tiles(slide, color="empty")
    slide["tiles"].obs["text"] = ["a", "b", "c", "d"]
    with pytest.raises(TypeError, match="expected a categorical column"):
        sd.pl.tiles(slide, color="text")
    with pytest.raises(TypeError, match="Tiles are drawn over the H&E of a SpatialData"):
        sd.pl.tiles(slide["tiles"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="The table is not one of tiles"):
        sd.pl.tiles(make_cells(5))  # type: ignore[arg-type]
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="there are 2 panels"):
        sd.pl.tiles(slide, ax=ax)  # type: ignore[arg-type]


def test_own_axes_titles_and_part(slide: SpatialData, tmp_path: Path) -> None:
    _, axes = plt.subplots(1, 2)
    drawn = sd.pl.tiles(slide, ax=axes, title=["left", "right"], crop_um=(0, 0, 60, 40), save=tmp_path / "tiles.pdf")
    assert [ax.get_title() for ax in drawn] == ["left", "right"]
    assert drawn[0].get_xlim() == (0, 60)
    assert (tmp_path / "tiles.pdf").stat().st_size > 1000


def test_tiles_of_an_he_alone() -> None:
    pixels = np.full((3, 300, 400), 200, np.uint8)
    systems = {"global": Identity(), "um": Scale([0.5, 0.5], axes=("x", "y"))}
    slide = SpatialData(images={"he": Image2DModel.parse(pixels, dims=("c", "y", "x"), transformations=systems)})
    slide.shapes["tissue"] = ShapesModel.parse(
        GeoDataFrame(geometry=[box(0, 0, 64, 64)]), transformations={"um": Identity()}
    )
    sd.pp.tiles(slide, **SMALL)
    on_slide, one_tile = sd.pl.tiles(slide, show=False)
    assert len(on_slide.collections[0].get_paths()) == 4
    assert one_tile.get_title() == "tile-1"
    assert not one_tile.collections


def test_the_picture(bundle: Path, check_image: Callable[[str], None]) -> None:
    slide = sd.pp.read_xenium(bundle)
    sd.pp.split_strips(slide, crop_px=64, mpp=0.3)
    sd.pp.tiles(slide, tile_px=128, min_cells=3)
    sd.pl.tiles(slide, show=False)
    check_image("tiles")
