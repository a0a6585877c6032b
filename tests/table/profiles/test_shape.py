from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel, ShapesModel

from stdistill._table.profiles.shape import measure_shapes


def rows_of(data: SpatialData) -> np.ndarray:
    return np.arange(data["table"].n_obs)


def test_columns_go_first(make_cells: Callable[..., ad.AnnData]) -> None:
    cells = make_cells(5, area_um2=[1.0, 2, 3, 4, np.nan], eccentricity=0.5, nucleus_area=9.0)
    values, source = measure_shapes(cells, np.array([0, 4]), "table")
    np.testing.assert_array_equal(values["area_um2"], [1, np.nan])
    assert set(values) == {"area_um2", "eccentricity"}
    assert source == "columns of .obs"


def test_areas_of_xenium(make_cells: Callable[..., ad.AnnData]) -> None:
    values, source = measure_shapes(make_cells(3, nucleus_area=[1.0, 2, 3]), np.array([1, 2]), "table")
    assert values["area_um2"].tolist() == [2, 3]
    assert source == ".obs['nucleus_area']"
    assert measure_shapes(make_cells(3), np.arange(3), "table") is None


def test_circles_have_no_shape(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide()
    assert measure_shapes(slide, rows_of(slide), "table") is None


def test_outlines_in_um(make_slide: Callable[..., SpatialData]) -> None:
    """The cells are squares of 2 µm, with the same second moments along all axes."""
    slide = make_slide(kind="polygons")
    values, source = measure_shapes(slide, np.array([3, 1]), "table")
    np.testing.assert_allclose(values["area_um2"], 4, rtol=1e-3)
    np.testing.assert_allclose(values["eccentricity"], 0, atol=1e-3)
    np.testing.assert_allclose(values["solidity"], 1)
    assert source == "outlines 'cells'"


def test_masks_in_pixels(make_slide: Callable[..., SpatialData]) -> None:
    """The cells are squares of 3 × 3 pixels of 0.2125 µm; a few touch others."""
    slide = make_slide(kind="labels", pixel_size=0.2125)
    values, source = measure_shapes(slide, rows_of(slide), "table")
    assert np.nanmedian(values["area_um2"]) == pytest.approx(9 * 0.2125**2, rel=0.02)
    assert np.nanmedian(values["eccentricity"]) == pytest.approx(0, abs=0.01)
    assert source == "masks 'cells'"


def test_masks_that_a_window_cuts_are_left_out(
    make_slide: Callable[..., SpatialData], monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide(kind="labels")
    whole, _ = measure_shapes(slide, rows_of(slide), "table")
    monkeypatch.setattr("stdistill._table.he.centroids.WINDOW_PX", 64)
    cut, _ = measure_shapes(slide, rows_of(slide), "table")
    known = np.isfinite(cut["area_um2"])
    assert 20 < known.sum() < 60
    np.testing.assert_allclose(cut["area_um2"][known], whole["area_um2"][known], rtol=1e-3)  # fewer cells tell the unit


def test_nuclei_beside_the_cells(make_slide: Callable[..., SpatialData]) -> None:
    """A cell may have two nuclei, whose mean counts, or none; their index is not that of the cells."""
    slide = make_slide(np.array([[10.0, 10], [20, 20], [30, 30]]))
    owners = ["cell-0", "cell-2", "cell-2"]
    nuclei = [shapely.box(0, 0, 2, 2), shapely.box(0, 0, 4, 4), shapely.box(0, 0, 8, 1)]
    frame = gpd.GeoDataFrame({"geometry": nuclei, "cell_id": owners}, index=[5, 6, 7])
    slide["nucleus_boundaries"] = ShapesModel.parse(frame)
    values, source = measure_shapes(slide, np.array([2, 1, 0]), "table")
    np.testing.assert_allclose(values["area_um2"], [12, np.nan, 4])
    assert values["eccentricity"][2] == pytest.approx(0)
    assert source == "outlines 'nucleus_boundaries'"


def test_a_spindle_is_one_in_masks_and_outlines(make_slide: Callable[..., SpatialData]) -> None:
    """An ellipse of axes 40 and 10 has the eccentricity √(1 − 1/16), whichever way it is measured."""
    y, x = np.mgrid[:120, :120]
    raster = np.zeros((120, 120), dtype=np.int32)
    raster[((x - 30) / 20) ** 2 + ((y - 30) / 5) ** 2 <= 1] = 1
    raster[((x - 90) / 5) ** 2 + ((y - 90) / 20) ** 2 <= 1] = 2
    slide = make_slide(np.array([[30.5, 30.5], [90.5, 90.5]]), kind="labels", pixel_size=1.0)
    slide["cells"] = Labels2DModel.parse(raster, dims=("y", "x"))
    values, _ = measure_shapes(slide, np.arange(2), "table")
    np.testing.assert_allclose(values["eccentricity"], np.sqrt(1 - 1 / 16), atol=0.01)
    np.testing.assert_allclose(values["area_um2"], np.pi * 20 * 5, rtol=0.03)
    ellipse = shapely.affinity.scale(shapely.Point(30, 30).buffer(1, quad_segs=32), 20, 5)
    other = make_slide(np.array([[30.0, 30], [60, 60]]), kind="polygons")
    other["cells"] = ShapesModel.parse(
        gpd.GeoDataFrame(geometry=[ellipse, shapely.box(59, 59, 61, 61)], index=pd.Index(["cell-0", "cell-1"]))
    )
    assert measure_shapes(other, np.arange(2), "table")[0]["eccentricity"][0] == pytest.approx(
        np.sqrt(15 / 16), abs=1e-3
    )
