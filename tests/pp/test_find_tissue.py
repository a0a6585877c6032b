from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import spatialdata
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import Identity, Scale, get_transformation

import stdistill as sd


@pytest.fixture
def slide() -> SpatialData:
    """A square of tissue, 1 mm from (0.4, 0.2) mm on, with a hole of 0.3 mm, at 2 µm per pixel."""
    pixels = np.full((3, 1000, 1000), 240, np.uint8)
    color = np.array([200, 130, 180], np.uint8)[:, None, None]
    pixels[:, 100:600, 200:700] = color
    pixels[:, 300:450, 400:550] = 240
    image = Image2DModel.parse(
        pixels, dims=("c", "y", "x"), transformations={"global": Identity(), "um": Scale([2, 2], axes=("x", "y"))}
    )
    return SpatialData(images={"he": image})


def test_outlines_are_in_um(slide: SpatialData) -> None:
    assert sd.pp.find_tissue(slide) is None
    shapes = slide["tissue"]
    assert list(shapes.index) == [1]
    (piece,) = shapes.geometry
    assert piece.bounds == pytest.approx((400, 200, 1400, 1200), abs=15)
    assert shapely.Polygon(piece.interiors[0]).bounds == pytest.approx((800, 600, 1100, 900), abs=15)
    assert shapes["area_um2"].tolist() == pytest.approx([1e6 - 9e4], rel=0.05)  # some µm of glass around it
    assert shapes["area_um2"].tolist() == pytest.approx([piece.area])
    systems = get_transformation(shapes, get_all=True)
    assert set(systems) == {"global", "um"}
    to_px = systems["global"].to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(to_px, np.diag([0.5, 0.5, 1]))
    record = slide.attrs["stdistill"]["find_tissue"]
    assert record["area_mm2"] == pytest.approx(0.91, rel=0.05)
    assert record["tissue_share"] == pytest.approx(0.91 / 4, rel=0.05)
    assert record["ink_share"] == 0
    assert record["glass"] == [240, 240, 240]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:zarr v3 autosharding")
def test_after_writing(slide: SpatialData, tmp_path: Path) -> None:
    sd.pp.find_tissue(slide)
    slide.write(tmp_path / "slide.zarr")
    read = spatialdata.read_zarr(tmp_path / "slide.zarr")
    assert read["tissue"].equals(slide["tissue"])
    sd.pp.find_tissue(read)  # it is known whose the outlines are


def test_a_copy(slide: SpatialData) -> None:
    copy = sd.pp.find_tissue(slide, shapes_key="mine", copy=True)
    assert copy is not None
    assert "mine" in copy.shapes
    assert "mine" not in slide
    assert "stdistill" not in slide.attrs
    assert copy["he"] is slide["he"]


def test_again_and_again(slide: SpatialData) -> None:
    for _ in range(2):
        sd.pp.find_tissue(slide)
    sd.pp.find_tissue(slide, shapes_key="other")
    with pytest.raises(ValueError, match=r"an element 'tissue' already, which sd\.pp\.find_tissue did not write"):
        sd.pp.find_tissue(slide)
    with pytest.raises(ValueError, match="an element 'he' already"):
        sd.pp.find_tissue(slide, shapes_key="he")


def test_outlines_that_were_corrected_by_hand_stay(slide: SpatialData) -> None:
    slide = SpatialData.init_from_elements({"he": slide["he"]}, attrs=dict(slide.attrs))
    sd.pp.find_tissue(slide)
    slide.shapes["tissue"].loc[1, "geometry"] = slide["tissue"].geometry.loc[1].buffer(-20)
    corrected = slide["tissue"].geometry.area.sum()
    with pytest.raises(ValueError, match=r"'tissue' were changed since they were found.*del sdata\.shapes\['tissue'\]"):
        sd.pp.find_tissue(slide)
    assert slide["tissue"].geometry.area.sum() == corrected
    del slide.shapes["tissue"]
    sd.pp.find_tissue(slide)


def test_a_blank_slide(slide: SpatialData) -> None:
    slide["he"].data[:] = 240
    with pytest.raises(ValueError, match=r"No tissue is seen on the image 'he'.*Is the slide blank"):
        sd.pp.find_tissue(slide)
    assert not slide.shapes
    assert not slide.attrs


def test_um_are_not_known(slide: SpatialData) -> None:
    from spatialdata.transformations import remove_transformation

    remove_transformation(slide["he"], "um")
    with pytest.raises(ValueError, match=r"µm are not known on the image 'he'.*sd\.pp\.read_slide"):
        sd.pp.find_tissue(slide)
    with pytest.raises(KeyError, match="image_key"):
        sd.pp.find_tissue(slide, image_key="nothing")


def test_a_table_alone(make_cells: Callable) -> None:
    with pytest.raises(TypeError, match="An AnnData holds no image"):
        sd.pp.find_tissue(make_cells(5))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Expected an AnnData or a SpatialData"):
        sd.pp.find_tissue("slide.svs")  # type: ignore[arg-type]


def test_of_a_xenium_slide(bundle: Path) -> None:
    """Where cells are, there is tissue, in the coordinates of the cells."""
    slide = sd.pp.read_xenium(bundle)
    sd.pp.find_tissue(slide)
    tissue = shapely.union_all(slide["tissue"].geometry.to_numpy())
    centers = slide["table"].obsm["spatial"]
    assert shapely.contains_xy(tissue, *centers.T).mean() > 0.97
    systems = get_transformation(slide["tissue"], "global").to_affine_matrix(("x", "y"), ("x", "y"))
    cells = get_transformation(slide["cell_circles"], "global").to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(systems, cells, atol=1e-6)


REAL: dict[str, tuple[dict[str, Any], float, int]] = {
    "he_small_images/CMU-1-Small-Region.svs": ({}, 0.40, 1),
    "her2st/images/B4.jpg": ({"mpp": 0.67}, 0.25, 1),  # half of it fat, under a haze of eosin
    "her2st/images/C4.jpg": ({"mpp": 0.67}, 0.17, 1),
    "slides_odd/05_subifds.ome.tif": ({}, 0.30, 4),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", REAL)
def test_real_slides(shared_data: Path, name: str) -> None:
    """Shares and pieces as they were found right by eye, on pictures like that of the documentation."""
    options, share, n = REAL[name]
    slide = sd.pp.read_slide(shared_data / name, **options)
    sd.pp.find_tissue(slide)
    record = slide.attrs["stdistill"]["find_tissue"]
    assert record["tissue_share"] == pytest.approx(share, abs=0.02)
    assert record["ink_share"] < 0.001
    assert len(slide["tissue"]) == n
