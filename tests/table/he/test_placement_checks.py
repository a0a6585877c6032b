"""Slides that did not come through a reader of this library: is the H&E where the cells are?"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from spatialdata import SpatialData, bounding_box_query
from spatialdata.models import Image2DModel
from spatialdata.transformations import Affine, Identity, get_transformation, set_transformation

import stdistill as sd
from stdistill._table.annotations import points_of_cells

ALIGNED = np.array([[0, 1.29, 0], [-1.29, 0, 390], [0, 0, 1]])
"""Of an H&E of 0.274 µm per pixel that is turned by a quarter."""


def tissue(shape: tuple[int, int] = (320, 320), share: float = 1.0) -> np.ndarray:
    """Purple above, glass below."""
    pixels = np.full((3, *shape), 240, dtype=np.uint8)
    pixels[:, : int(shape[0] * share)] = np.array([150, 60, 160], dtype=np.uint8)[:, None, None]
    return pixels


@pytest.fixture
def slide(make_slide: Callable[..., SpatialData]) -> Callable[..., SpatialData]:
    def make(matrix: np.ndarray | None, pixels: np.ndarray) -> SpatialData:
        slide = make_slide(300, extent=60.0)
        to_global = Identity() if matrix is None else Affine(matrix, ("x", "y"), ("x", "y"))
        slide.images["he"] = Image2DModel.parse(
            pixels, dims=("c", "y", "x"), scale_factors=[2], transformations={"global": to_global}
        )
        return slide

    return make


def test_an_aligned_slide_is_not_talked_of(slide: Callable[..., SpatialData]) -> None:
    aligned = slide(ALIGNED, tissue())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.pp.split_strips(aligned, crop_px=8)
        sd.get.he_crops(aligned, cells=aligned["table"].obs_names[:2], crop_px=8)
        sd.pl.split(aligned, image_key="he", show=False)


@pytest.mark.parametrize(
    "use",
    [
        lambda slide: sd.pp.embed_he(slide, encoder="texture", crop_px=32),
        lambda slide: sd.pp.split_strips(slide, crop_px=8),
        lambda slide: sd.pl.crops(slide, crop_px=8, n_crops=2, show=False),
        lambda slide: sd.pl.niches(slide, keys="x_niche", image_key="he", show=False),
        lambda slide: points_of_cells(slide, "px"),
    ],
)
def test_an_image_without_alignment(slide: Callable[..., SpatialData], use: Callable[[SpatialData], object]) -> None:
    def with_niches(*arguments: object) -> SpatialData:
        made = slide(*arguments)
        made["table"].obs["x_niche"] = made["table"].obs["region"]
        return made

    identity = r"'he' are taken for pixels of the morphology image \(0\.2125 µm\).*is the identity"
    with pytest.warns(UserWarning, match=rf"{identity}.*100\.0% of the 300 cells.*Unless it was brought into"):
        use(with_niches(None, tissue()))
    with pytest.raises(ValueError, match=rf"{identity}.*6\d\.\d% of the 300 cells.*not aligned.*sd\.pp\.read_xenium"):
        use(with_niches(None, tissue((290, 180))))
    with pytest.raises(ValueError, match=rf"{identity}.*on stained tissue\. It is not aligned"):
        use(with_niches(None, tissue(share=0.3)))


def test_few_cells_on_the_image_or_on_tissue(slide: Callable[..., SpatialData]) -> None:
    with pytest.warns(UserWarning, match=r"Only \d\d\.\d% of the 300 cells lie on the image 'he'.*seems to be off"):
        sd.pp.split_strips(slide(ALIGNED, tissue((320, 120))), crop_px=8)
    with pytest.warns(UserWarning, match=r"and 3\d\.\d% of these on stained tissue: the alignment seems to be off"):
        sd.pp.split_strips(slide(ALIGNED, tissue(share=0.25)), crop_px=8)


MPP, SIDE_PX = 0.5, 1000
GRID_UM = np.stack(np.meshgrid(np.arange(20, 480, 25.0), np.arange(20, 480, 25.0)), axis=-1).reshape(-1, 2)


def jittered() -> np.ndarray:
    return GRID_UM + np.random.default_rng(0).uniform(-7, 7, GRID_UM.shape)


def with_nuclei(make_slide: Callable[..., SpatialData], centers: np.ndarray, nuclei: np.ndarray) -> SpatialData:
    """A slide of 500 × 500 µm with nuclei of 7 µm, and cells somewhere."""
    y, x = (np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5) * MPP
    pixels = tissue((SIDE_PX, SIDE_PX))
    for left, top in nuclei:
        pixels[:, (x - left) ** 2 + (y - top) ** 2 < 3.5**2] = np.array([90, 60, 140], dtype=np.uint8)[:, None]
    slide = make_slide(centers, he_to_global=np.diag([MPP / 0.2125, MPP / 0.2125, 1]), shape=(SIDE_PX, SIDE_PX))
    placed = get_transformation(slide["he"], get_all=True)
    slide.images["he"] = Image2DModel.parse(pixels, dims=("c", "y", "x"), transformations=placed)
    return slide


@pytest.mark.parametrize(
    "moved",
    [
        lambda um: um[:, ::-1],  # row and column
        lambda um: np.column_stack([um[:, 0], 500 - um[:, 1]]),  # y from below
        lambda um: 500 - um,  # turned by half
    ],
)
def test_cells_on_tissue_but_not_on_nuclei(
    make_slide: Callable[..., SpatialData], moved: Callable[[np.ndarray], np.ndarray]
) -> None:
    nuclei = jittered()
    slide = with_nuclei(make_slide, np.ascontiguousarray(moved(nuclei)), nuclei)
    with pytest.warns(UserWarning, match=r"do not seem to lie on nuclei of the H&E: .* are x and y swapped"):
        sd.pp.embed_he(slide, encoder="texture", crop_px=32)


def test_cells_on_nuclei_and_spots_on_a_grid_are_not_talked_of(make_slide: Callable[..., SpatialData]) -> None:
    nuclei = jittered()
    on_nuclei, spots = with_nuclei(make_slide, nuclei, nuclei), with_nuclei(make_slide, GRID_UM, nuclei + 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.pp.split_strips(on_nuclei, crop_px=16)
        sd.pp.split_strips(spots, crop_px=16)


def test_a_slide_that_was_read_here_was_checked(bundle: Path, tmp_path: Path) -> None:
    """It stays as it was read; once it is moved, it is looked at again."""
    slide = sd.pp.read_xenium(bundle)
    slide.write(tmp_path / "slide.zarr")
    again = SpatialData.read(tmp_path / "slide.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.pp.split_strips(slide, crop_px=16)
        sd.pp.split_strips(again, crop_px=16)
    to_global = np.diag([1.0, 1.0, 1.0])
    set_transformation(slide["he"], Affine(to_global, ("x", "y"), ("x", "y")), "global")
    with pytest.raises(ValueError, match=r"now has|not aligned"):
        sd.pp.split_strips(slide, crop_px=16)


def test_spatialdata_io_without_the_alignment(own_bundle: Path) -> None:
    """It takes the identity and says nothing."""
    import spatialdata_io

    def read() -> SpatialData:
        slide = spatialdata_io.xenium(
            own_bundle, morphology_focus=False, cells_labels=False, nucleus_labels=False, cells_as_circles=True
        )
        slide.images["he"] = slide.images.pop("he_image")
        return slide

    (image,) = own_bundle.glob("*he_image.ome.tif")
    (alignment,) = own_bundle.glob("*he_imagealignment.csv")
    shutil.copy(image, own_bundle / "copy_he_image.ome.tif")
    image.unlink()
    (own_bundle / "copy_he_image.ome.tif").rename(image)
    aligned = read()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sd.pp.split_strips(aligned, crop_px=16)
    alignment.unlink()
    with pytest.raises(ValueError, match=r"spatialdata_io\.xenium finds no alignment of it.*It is not aligned"):
        sd.pp.split_strips(read(), crop_px=16)


def test_crops_that_the_edge_of_a_part_cuts(bundle: Path) -> None:
    """Cells nearer to the cut than half a crop: what lies beyond is tissue, of which nothing is seen."""
    whole = sd.pp.read_xenium(bundle)
    box = {"min_coordinate": [300, 300], "max_coordinate": [1300, 1300], "target_coordinate_system": "global"}
    part = bounding_box_query(whole, axes=("x", "y"), **box)
    pixels = sd.get.he_pixels(part)
    height, width = part["he"]["scale0"].image.shape[1:]
    to_edge = np.minimum.reduce([pixels["x"], pixels["y"], width - pixels["x"], height - pixels["y"]])
    n_cut = int((to_edge < 15.5).sum())
    assert 0 < n_cut < len(pixels)
    expected = f"crops of {n_cut} cells reach over the edge of 'he', .* wider by half a crop, 4 µm"
    with pytest.warns(UserWarning, match=expected):
        sd.pp.embed_he(part, encoder="texture", crop_px=32)
    with pytest.warns(UserWarning, match=expected):
        sd.pp.tissue_share(part, crop_px=32)

    smaller = whole["he"]["scale1"].image  # all of the slide, in fewer pixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.pp.tissue_share(whole, crop_px=32)
        placed = get_transformation(smaller, get_all=True)
        whole.images["he"] = Image2DModel.parse(smaller.data, dims=("c", "y", "x"), transformations=placed)
        sd.pp.tissue_share(whole, crop_px=32)
