from __future__ import annotations

import dask.array as da
import geopandas as gpd
import numpy as np
import pytest
import shapely
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel
from spatialdata.transformations import Identity, Scale

from stdistill._slide.pyramid import SlideLevel
from stdistill._table.he.tissue import find_tissue_on

SHAPE = (640, 960)


def slide_of(outlines: list[shapely.Geometry] | None, *, mpp: float = 0.5) -> tuple[SpatialData, list[SlideLevel]]:
    """A slide whose left half is stained, with outlines in µm."""
    pixels = np.full((3, *SHAPE), 240, np.uint8)
    pixels[:, :, :480] = 120
    image = Image2DModel.parse(
        pixels, dims=("c", "y", "x"), transformations={"global": Identity(), "um": Scale([mpp, mpp], axes=("x", "y"))}
    )
    slide = SpatialData(images={"he": image})
    if outlines is not None:
        frame = gpd.GeoDataFrame({"geometry": outlines})
        slide.shapes["tissue"] = ShapesModel.parse(frame, transformations={"um": Identity()})
    return slide, [SlideLevel(da.from_array(pixels), np.ones(2))]


def test_without_outlines_tissue_is_what_is_stained() -> None:
    for key in ("tissue", None):
        tissue = find_tissue_on(*slide_of(None)[:1], "he", slide_of(None)[1], key)
        assert tissue.outlines is None
        assert tissue.mask.shape == SHAPE
        assert tissue.mask[:, :480].all()
        assert not tissue.mask[:, 480:].any()
        assert tissue.contains(np.array([[900.0, 5.0]])).all()


def test_outlines_are_brought_to_pixels() -> None:
    ring = shapely.box(50, 50, 250, 250).difference(shapely.box(100, 100, 200, 200))
    slide, levels = slide_of([ring, shapely.box(400, 10, 420, 30)])
    tissue = find_tissue_on(slide, "he", levels, "tissue")
    places = np.array([(150, 150), (300, 300), (820, 40), (600, 300), (99, 300), (101, 300)], dtype=float)
    assert tissue.contains(places).tolist() == [True, False, True, False, False, True]
    # The mask leaves out no tissue, and little else; holes are within it.
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    true = tissue.contains(np.stack([columns.ravel(), rows.ravel()], axis=1)).reshape(SHAPE)
    drawn = np.kron(tissue.mask, np.ones((32, 32), dtype=bool))
    assert drawn[true].all()
    assert not drawn[:, 640:736].any()


def test_outlines_that_are_not_valid_are_mended() -> None:
    bow = shapely.Polygon([(50, 50), (250, 250), (250, 50), (50, 250)])
    slide, levels = slide_of([bow])
    tissue = find_tissue_on(slide, "he", levels, "tissue")
    assert tissue.contains(np.array([[120.0, 300.0], [300.0, 120.0]])).tolist() == [True, False]


def test_outlines_of_another_slide_are_an_error() -> None:
    slide, levels = slide_of([shapely.box(5000, 5000, 6000, 6000)])
    with pytest.raises(ValueError, match="None of the 1 outlines"):
        find_tissue_on(slide, "he", levels, "tissue")
    assert find_tissue_on(slide, "he", levels, None).outlines is None
