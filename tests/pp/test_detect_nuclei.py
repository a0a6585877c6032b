from __future__ import annotations

import json
import warnings
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
import tifffile
from scipy.spatial import KDTree
from skimage import draw
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel, get_table_keys
from spatialdata.transformations import Identity, Scale, get_transformation

import stdistill as sd
from stdistill._nuclei import tiles
from stdistill._slide.affine import apply_affine
from stdistill._table.he.slide_record import read_slide_record, write_slide_record

MPP = 0.274
COLUMNS = ["area_um2", "eccentricity", "solidity", "haematoxylin"]


@pytest.fixture(scope="module")
def pixels(bundle: Path) -> np.ndarray:
    """A part of a simulated H&E, with a margin of glass on the left."""
    he = tifffile.imread(bundle / "simulated_he_image.ome.tif", level=0)
    middle = he.shape[0] // 2
    part = he[middle - 200 : middle + 200, he.shape[1] // 2 - 250 : he.shape[1] // 2 + 250]
    return np.pad(part, [(0, 0), (150, 0), (0, 0)], constant_values=240)


@pytest.fixture(scope="module")
def file(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "slide.ome.tif"
    words = {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
    tifffile.imwrite(path, pixels, ome=True, tile=(128, 128), photometric="rgb", metadata=words)
    return path


@pytest.fixture
def slide(file: Path) -> SpatialData:
    return sd.pp.read_slide(file)


@pytest.fixture(scope="module")
def found(file: Path) -> SpatialData:
    """The slide with its nuclei, which tests must not change."""
    slide = sd.pp.read_slide(file)
    sd.pp.detect_nuclei(slide, device="cpu")
    return slide


def polygons_px(slide: SpatialData) -> np.ndarray:
    return shapely.transform(slide["nuclei"].geometry.to_numpy(), lambda um: um / MPP)


def write_geojson(path: Path, polygons: np.ndarray) -> Path:
    features = [
        {"type": "Feature", "geometry": json.loads(shapely.to_geojson(each)), "properties": {"objectType": "detection"}}
        for each in polygons
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_shapes_and_table(found: SpatialData) -> None:
    table, shapes = found["table"], found["nuclei"]
    assert 40 < table.n_obs == len(shapes)
    assert get_table_keys(table) == ("nuclei", "region", "instance_id")
    assert (table.obs["instance_id"].to_numpy() == shapes.index).all()
    assert list(table.obs.columns[:4]) == COLUMNS
    centres = shapely.get_coordinates(shapes.geometry.centroid)
    assert np.median(np.linalg.norm(table.obsm["spatial"] - centres, axis=1)) < 0.1
    np.testing.assert_allclose(table.obs["area_um2"], shapes.geometry.area, rtol=1e-6)
    assert 15 < table.obs["area_um2"].median() < 60
    assert table.obs[COLUMNS].notna().all(axis=None)
    assert table.obs["solidity"].between(0.5, 1).all()
    systems = get_transformation(shapes, get_all=True)
    assert isinstance(systems["um"], Identity)
    matrix = systems["global"].to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(matrix, np.diag([1 / MPP, 1 / MPP, 1]))


def test_nuclei_are_those_of_the_image(found: SpatialData, pixels: np.ndarray) -> None:
    centres = found["table"].obsm["spatial"] / MPP
    assert (centres[:, 0] > 150).all()  # none on glass
    red = pixels[*np.floor(centres).astype(int).T[::-1]][:, 0]
    assert np.median(red) < np.median(pixels[:, 150:, 0]) - 40


def test_the_record_says_how(found: SpatialData) -> None:
    record = found["table"].uns["stdistill"]["detect_nuclei"]
    assert record["method"] == "unet"
    assert len(record["weights"]) == 16
    assert record["mpp"] == pytest.approx(MPP)
    slide = read_slide_record(found["table"])
    assert (slide.n_cells, slide.shape) == (found["table"].n_obs, (400, 650))


def test_a_slide_with_nuclei_goes_on(found: SpatialData, tmp_path: Path) -> None:
    """What was written without the image is read back, and serves neighbourhoods, features and QuPath."""
    SpatialData(shapes=found.shapes, tables=found.tables, attrs=found.attrs).write(tmp_path / "nuclei.zarr")
    slide = spatialdata.read_zarr(tmp_path / "nuclei.zarr")
    sd.pp.attach_slide(slide)
    pd.testing.assert_frame_equal(slide["table"].obs, found["table"].obs, check_categorical=False)
    sd.pp.neighborhoods(slide, radius_um=30)
    sd.pp.embed_he(slide, encoder="texture", crop_px=32)
    assert np.isfinite(slide["table"].obsm["X_he"]).all()
    np.testing.assert_allclose(sd.get.he_pixels(slide)[["x", "y"]], found["table"].obsm["spatial"] / MPP, atol=0.1)
    slide["table"].obs["kind"] = pd.Categorical(["a"] * slide["table"].n_obs)
    sd.io.to_geojson(slide, tmp_path / "nuclei.geojson", key="kind")
    (first, *_) = json.loads((tmp_path / "nuclei.geojson").read_text())["features"]
    assert first["properties"]["objectType"] == "detection"
    outline = shapely.from_geojson(json.dumps(first["geometry"]))
    assert outline.intersection(polygons_px(found)[0]).area > 0.99 * outline.area


def test_the_tree_needs_no_weights(slide: SpatialData, found: SpatialData) -> None:
    sd.pp.detect_nuclei(slide, method="tree")
    assert slide["table"].n_obs == pytest.approx(found["table"].n_obs, rel=0.3)
    assert "weights" not in slide["table"].uns["stdistill"]["detect_nuclei"]


def test_copy_leaves_the_slide_as_it_was(slide: SpatialData) -> None:
    other = sd.pp.detect_nuclei(slide, method="tree", shapes_key="cells", table_key="cells_table", copy=True)
    assert set(slide.shapes) | set(slide.tables) == set()
    assert set(other.shapes) | set(other.tables) == {"cells", "cells_table"}


def test_a_killed_run_goes_on(
    slide: SpatialData, found: SpatialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE_BLOCKS", 2)
    detect_in = tiles._detect_in
    calls = []

    def count(*arguments: Any) -> Any:
        calls.append(arguments[2].number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return detect_in(*arguments)

    monkeypatch.setattr(tiles, "_detect_in", count)
    with pytest.raises(KeyboardInterrupt):
        sd.pp.detect_nuclei(slide, store=tmp_path / "store", device="cpu")
    assert set(slide.shapes) | set(slide.tables) == set()
    kept, begun = list((tmp_path / "store").glob("*.npz")), len(calls)
    assert kept
    sd.pp.detect_nuclei(slide, store=tmp_path / "store", device="cpu")
    n_tiles = len(list((tmp_path / "store").glob("*.npz")))
    assert len(calls) - begun == n_tiles - len(kept)
    # Smaller tiles, and two runs: the same nuclei.
    order, expected = (np.lexsort(one["table"].obsm["spatial"].T) for one in (slide, found))
    np.testing.assert_allclose(
        slide["table"].obsm["spatial"][order], found["table"].obsm["spatial"][expected], atol=1e-6
    )
    sd.pp.detect_nuclei(slide, store=tmp_path / "store", device="cpu")
    assert len(calls) - begun == n_tiles - len(kept)
    with pytest.raises(ValueError, match=r"of another run \(method: 'unet', now 'tree'"):
        sd.pp.detect_nuclei(slide, store=tmp_path / "store", method="tree")


def test_only_within_the_tissue(slide: SpatialData, found: SpatialData) -> None:
    ring = shapely.box(60, 20, 160, 90).difference(shapely.box(90, 40, 120, 70))
    frame = gpd.GeoDataFrame({"geometry": [ring]})
    slide.shapes["tissue"] = ShapesModel.parse(frame, transformations={"um": Identity()})
    sd.pp.detect_nuclei(slide)
    expected = shapely.contains_xy(ring, found["table"].obsm["spatial"])
    assert slide["table"].n_obs == expected.sum()
    np.testing.assert_allclose(slide["table"].obsm["spatial"], found["table"].obsm["spatial"][expected], atol=1e-6)
    slide.shapes["far"] = ShapesModel.parse(
        frame.translate(5000).to_frame("geometry"), transformations={"um": Identity()}
    )
    with pytest.raises(ValueError, match=r"None of the 1 outlines of shapes\['far'\] lies on the image"):
        sd.pp.detect_nuclei(slide, tissue_key="far")


def test_found_tissue_is_taken(slide: SpatialData, found: SpatialData) -> None:
    sd.pp.find_tissue(slide)
    sd.pp.detect_nuclei(slide, method="tree")
    inside = shapely.contains_xy(slide["tissue"].union_all(), slide["table"].obsm["spatial"])
    assert inside.all()
    assert slide["table"].n_obs == pytest.approx(found["table"].n_obs, rel=0.3)


def test_an_image_without_um_is_measured_by_its_nuclei(pixels: np.ndarray, found: SpatialData) -> None:
    image = Image2DModel.parse(np.moveaxis(pixels, -1, 0), dims=("c", "y", "x"))
    slide = SpatialData(images={"he": image})
    with pytest.warns(UserWarning, match=r"does not state its µm per pixel.*give mpp="):
        sd.pp.detect_nuclei(slide)
    record = read_slide_record(slide["table"])
    assert record.mpp_source == "estimated"
    assert record.mpp == pytest.approx(MPP, rel=0.3)
    assert slide["table"].n_obs == pytest.approx(found["table"].n_obs, rel=0.2)
    sd.pp.detect_nuclei(slide, mpp=MPP)
    np.testing.assert_allclose(slide["table"].obsm["spatial"], found["table"].obsm["spatial"], atol=1e-6)
    sd.pp.embed_he(slide, encoder="texture", crop_px=32, mpp=0.5)


def test_a_xenium_slide_keeps_its_table_and_its_um(bundle: Path) -> None:
    slide = sd.pp.read_xenium(bundle)
    with pytest.raises(ValueError, match=r"a table 'table' already.*table_key="):
        sd.pp.detect_nuclei(slide)
    sd.pp.detect_nuclei(slide, nuclei=bundle / "nucleus_boundaries.parquet", nuclei_unit="um", table_key="nuclei_table")
    nuclei = slide["nuclei_table"]
    assert nuclei.n_obs > 700
    distances = KDTree(slide["table"].obsm["spatial"]).query(nuclei.obsm["spatial"])[0]
    assert np.median(distances) < 2
    expected = apply_affine(read_slide_record(slide["table"]).um_to_px, nuclei.obsm["spatial"])
    np.testing.assert_allclose(sd.get.he_pixels(slide, table_key="nuclei_table")[["x", "y"]], expected, atol=0.1)
    assert nuclei.obs["haematoxylin"].median() > 0.3


def test_nuclei_of_which_something_was_made_stay(slide: SpatialData) -> None:
    """Features take hours; nuclei alone are found again without a word."""
    slide = SpatialData.init_from_elements({"he": slide["he"]}, attrs=dict(slide.attrs))
    sd.pp.detect_nuclei(slide, method="tree")
    sd.pp.detect_nuclei(slide, method="tree")
    table = slide["table"]
    table.obsm["X_he"] = np.zeros((table.n_obs, 2), dtype=np.float16)
    table.obs["student_niche"] = pd.Categorical(["a"] * table.n_obs)
    lost = r"holds \.obs\['student_niche'\], \.obsm\['X_he'\], which would be lost\..*del sdata\.tables\['table'\]"
    with pytest.raises(ValueError, match=lost):
        sd.pp.detect_nuclei(slide, method="tree")
    assert slide["table"] is table
    sd.pp.detect_nuclei(slide, method="tree", table_key="others", shapes_key="other_nuclei")
    assert slide["table"] is table
    del slide.tables["table"], slide.shapes["nuclei"]
    sd.pp.detect_nuclei(slide, method="tree")
    assert "X_he" not in slide["table"].obsm


def test_nuclei_of_qupath(slide: SpatialData, found: SpatialData, tmp_path: Path) -> None:
    path = write_geojson(tmp_path / "nuclei.geojson", polygons_px(found))
    sd.pp.detect_nuclei(slide, nuclei=path)
    expected, table = found["table"], slide["table"]
    np.testing.assert_allclose(table.obs["area_um2"], expected.obs["area_um2"], rtol=0.01)
    np.testing.assert_allclose(table.obs["solidity"], expected.obs["solidity"], atol=0.01)
    assert np.corrcoef(table.obs["eccentricity"], expected.obs["eccentricity"])[0, 1] > 0.95
    assert np.corrcoef(table.obs["haematoxylin"], expected.obs["haematoxylin"])[0, 1] > 0.9
    assert table.obs["haematoxylin"].median() == pytest.approx(expected.obs["haematoxylin"].median(), rel=0.1)
    assert table.uns["stdistill"]["detect_nuclei"]["nuclei"] == str(path)


def test_nuclei_as_a_label_image(slide: SpatialData, found: SpatialData) -> None:
    labels = np.zeros((400, 650), dtype=np.int32)
    rows, columns = np.mgrid[:400, :650] + 0.5
    for number, polygon in enumerate(polygons_px(found)[:30], 1):
        labels[shapely.contains_xy(polygon, columns, rows)] = 10 * number
    sd.pp.detect_nuclei(slide, nuclei=labels)
    assert slide["table"].obs["instance_id"].tolist() == [10 * number for number in range(1, 31)]
    np.testing.assert_allclose(slide["table"].obs["area_um2"], found["table"].obs["area_um2"][:30], rtol=0.1)


def test_centres_become_circles(slide: SpatialData, found: SpatialData, tmp_path: Path) -> None:
    centres = pd.DataFrame(found["table"].obsm["spatial"] / MPP, columns=["x", "y"])
    centres.to_csv(tmp_path / "centres.csv", index=False)
    sd.pp.detect_nuclei(slide, nuclei=tmp_path / "centres.csv")
    table = slide["table"]
    np.testing.assert_allclose(table.obsm["spatial"], found["table"].obsm["spatial"], atol=1e-6)
    assert table.obs[["area_um2", "eccentricity", "solidity"]].isna().all(axis=None)
    assert table.obs["haematoxylin"].notna().all()
    assert (slide["nuclei"]["radius"] == 3.0).all()
    sd.pp.embed_he(slide, encoder="texture", crop_px=32)


@pytest.mark.parametrize(
    ("scale", "unit", "fits"),
    [(MPP, "px", 'nuclei_unit="um"'), (1, "um", 'nuclei_unit="px"'), (10, "px", "Are they of this slide?")],
)
def test_nuclei_in_another_unit(
    slide: SpatialData, found: SpatialData, tmp_path: Path, scale: float, unit: str, fits: str
) -> None:
    polygons = shapely.transform(polygons_px(found), lambda px: px * scale)
    path = write_geojson(tmp_path / "nuclei.json", polygons)
    with pytest.raises(
        ValueError, match=rf"given nuclei do not fit the image as '{unit}': .*{fits}".replace("?", r"\?")
    ):
        sd.pp.detect_nuclei(slide, nuclei=path, nuclei_unit=unit)
    assert set(slide.shapes) | set(slide.tables) == set()


@pytest.mark.parametrize("shift", [True, False])
def test_bounds_are_respected(slide: SpatialData, found: SpatialData, tmp_path: Path, shift: bool) -> None:
    """QuPath counts from the corner of what was scanned; whichever it was is seen by the tissue."""
    record = read_slide_record(slide)
    left, top = 140, 10
    write_slide_record(slide, record.__class__(**{**record.__dict__, "bounds": (left, top, 510, 390)}))
    polygons = shapely.transform(polygons_px(found), lambda px: px - (left, top) * np.array(int(shift)))
    path = write_geojson(tmp_path / "nuclei.geojson", polygons)
    sd.pp.detect_nuclei(slide, nuclei=path, in_bounds=shift)
    np.testing.assert_allclose(slide["table"].obsm["spatial"], found["table"].obsm["spatial"], atol=1)
    sd.pp.detect_nuclei(slide, nuclei=path)
    assert slide["table"].uns["stdistill"]["detect_nuclei"]["in_bounds"] == shift


@pytest.mark.parametrize("grey", [0, 245])
def test_a_blank_slide_is_an_error(tmp_path: Path, grey: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "blank.tif", np.full((300, 300, 3), grey, np.uint8), tile=(128, 128), photometric="rgb")
    slide = sd.pp.read_slide(tmp_path / "blank.tif", mpp=0.5)
    for method in ("unet", "tree"):
        with pytest.raises(ValueError, match="No nuclei were found on the image 'he'"):
            sd.pp.detect_nuclei(slide, method=method)
    assert set(slide.shapes) | set(slide.tables) == set()


def test_a_blank_image_without_um(tmp_path: Path) -> None:
    image = Image2DModel.parse(np.full((3, 200, 200), 240, np.uint8), dims=("c", "y", "x"))
    with pytest.raises(ValueError, match="no nuclei were found on it to estimate"):
        sd.pp.detect_nuclei(SpatialData(images={"he": image}))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "otsu"}, ValueError, r"no method 'otsu'.*'unet', 'tree', 'instanseg', 'cellpose', 'stardist'"),
        ({"method": "unet", "weights": "mine"}, ValueError, "go with a network of another package"),
        ({"nuclei": "none.geojson"}, FileNotFoundError, "none.geojson"),
        ({"nuclei": "none.geojson", "store": "here"}, ValueError, "leave out weights= and store="),
        ({"image_key": "hne"}, KeyError, "image_key='hne' is not an image"),
        ({"mpp": 0.5}, ValueError, r"mpp=0\.5 was given, but 'he' has 0\.274"),
        ({"mpp": -1}, ValueError, "mpp must be positive"),
        ({"shapes_key": "my nuclei"}, ValueError, "shapes_key must be a name"),
        ({"shapes_key": "he"}, ValueError, "an element 'he' already"),
    ],
)
def test_errors(slide: SpatialData, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sd.pp.detect_nuclei(slide, **options)
    assert set(slide.shapes) | set(slide.tables) == set()


def test_broken_geojson(slide: SpatialData, tmp_path: Path) -> None:
    for text in ('{"type": "FeatureCollection", "features": [', '{"type": "FeatureCollection", "features": []}'):
        (tmp_path / "nuclei.geojson").write_text(text)
        with pytest.raises(ValueError, match=r"nuclei\.geojson"):
            sd.pp.detect_nuclei(slide, nuclei=tmp_path / "nuclei.geojson")


def test_a_table_holds_no_image(make_cells: Callable[..., ad.AnnData]) -> None:
    with pytest.raises(TypeError, match=r"An AnnData holds no image"):
        sd.pp.detect_nuclei(make_cells(5))


def test_a_turned_image(pixels: np.ndarray, found: SpatialData) -> None:
    """µm may lie on the image in any way that keeps shapes."""
    image = Image2DModel.parse(
        np.moveaxis(pixels, -1, 0), dims=("c", "y", "x"), transformations={"um": Scale([-MPP, MPP], axes=("x", "y"))}
    )
    slide = SpatialData(images={"he": image})
    sd.pp.detect_nuclei(slide)
    np.testing.assert_allclose(slide["table"].obsm["spatial"], found["table"].obsm["spatial"] * (-1, 1), atol=1e-6)
    np.testing.assert_allclose(slide["table"].obs["area_um2"], found["table"].obs["area_um2"], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "n_nuclei"),
    [("12b_nomacro_20x.ndpi", (60, 180)), ("30_small.mrxs", (20, 70)), ("23_odd_levels.svs", (30, 100))],
)
def test_formats_of_scanners(shared_data: Path, name: str, n_nuclei: tuple[int, int]) -> None:
    slide = sd.pp.read_slide(shared_data / "slides_odd" / name)
    sd.pp.detect_nuclei(slide)
    low, high = n_nuclei
    assert low < slide["table"].n_obs < high
    assert slide["table"].obs["area_um2"].between(3, 200).all()
    height, width = slide["he"]["scale0"]["image"].shape[1:]
    assert sd.get.he_pixels(slide)[["x", "y"]].max().tolist() < [width, height]


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((200, 325), r"resize\(labels, \(400, 650\), order=0"),
        ((650, 400), r"Give labels\.T"),
        ((512, 768), r"Give labels\[:400, :650\]"),
    ],
)
def test_labels_of_another_size(slide: SpatialData, found: SpatialData, shape: tuple[int, int], advice: str) -> None:
    """Such as those of a smaller level: its pixels are not those of the image."""
    labels = np.zeros(shape, dtype=np.int32)
    labels[20:40, 20:40] = 1
    with pytest.raises(
        ValueError, match=rf"has {shape[0]} × {shape[1]} pixels .* 400 × 650 at full resolution.*{advice}"
    ):
        sd.pp.detect_nuclei(slide, nuclei=labels)
    assert "table" not in slide.tables


def test_labels_that_are_transposed(bundle: Path, tmp_path: Path) -> None:
    """Of an image that is nearly square they have its size but for a few pixels, and lie on tissue all the same."""
    he = tifffile.imread(bundle / "simulated_he_image.ome.tif", level=0)
    part = he[he.shape[0] // 2 - 700 :, he.shape[1] // 2 - 700 :][:1400, :1394]
    words = {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
    tifffile.imwrite(tmp_path / "a.ome.tif", part, ome=True, tile=(128, 128), photometric="rgb", metadata=words)
    slide = sd.pp.read_slide(tmp_path / "a.ome.tif")
    nuclei = sd.pp.detect_nuclei(slide, method="tree", copy=True)
    assert nuclei is not None
    labels = np.zeros(part.shape[:2], dtype=np.int32)
    for number, polygon in enumerate(polygons_px(nuclei), 1):
        x, y = shapely.get_coordinates(polygon).T - 0.5
        labels[draw.polygon(y, x, labels.shape)] = number
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sd.pp.detect_nuclei(slide, nuclei=labels, copy=True)
    assert not [one for one in said if "do not seem to lie on those of the image" in str(one.message)]
    message = r"do not seem to lie on those of the image: [45]\d% .*half are by chance.*labels\.T"
    with pytest.warns(UserWarning, match=message):
        sd.pp.detect_nuclei(slide, nuclei=labels.T, copy=True)


def test_labels_that_lack_an_edge(slide: SpatialData, found: SpatialData) -> None:
    """Those of half the size, brought back to twice as many pixels, may lack the last row: rounding takes it."""
    labels = np.zeros((399, 650), dtype=np.int32)
    rows, columns = np.mgrid[:399, :650] + 0.5
    for number, polygon in enumerate(polygons_px(found), 1):
        labels[shapely.contains_xy(polygon, columns, rows)] = number
    sd.pp.detect_nuclei(slide, nuclei=labels)
    assert abs(slide["table"].n_obs - found["table"].n_obs) <= 2
