from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from spatialdata import SpatialData, bounding_box_query

import stdistill as sd
from stdistill._table.he.slide_record import SlideRecord, write_slide_record

CENTERS = np.array([[10.0, 10], [20, 10], [30, 40]])
TURNED = np.diag([1 / 0.2125, 1 / 0.2125, 1]) @ np.array([[0, 0.5, 10], [-0.5, 0, 60], [0, 0, 1]])
"""H&E pixels of 0.5 µm to morphology pixels: x = y_px / 2 + 10, y = 60 - x_px / 2."""
COLORS = ["#ff0000", "#0000ff"]


def add_niches(slide: SpatialData, niches: list[str | None], names: list[str] | None = None) -> SpatialData:
    table = slide["table"]
    table.obs["student_niche"] = pd.Categorical(niches, categories=names or ["0", "1"])
    table.obs["student_confidence"] = np.linspace(0.5, 1, len(niches), dtype=np.float32)
    table.uns["student_niche_colors"] = np.array(COLORS, dtype=object)
    return slide


@pytest.fixture
def slide(make_slide: Callable[..., SpatialData]) -> SpatialData:
    return add_niches(make_slide(CENTERS, kind="polygons", he_to_global=TURNED), ["0", "1", None])


def load(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")
    content = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
    assert content["type"] == "FeatureCollection"
    return content["features"]


def ring(feature: dict[str, Any]) -> np.ndarray:
    assert feature["geometry"]["type"] == "Polygon"
    return np.array(feature["geometry"]["coordinates"][0])


def test_cells_as_qupath_reads_them(slide: SpatialData, tmp_path: Path) -> None:
    first, second, third = load(sd.io.to_geojson(slide, tmp_path / "niches.geojson", key="student_niche"))
    assert first["properties"] == {
        "objectType": "cell",
        "classification": {"name": "0", "color": [255, 0, 0]},
        "color": [255, 0, 0],
        "name": "cell-0",
        "measurements": {"student_confidence": 0.5},
    }
    assert second["properties"]["classification"] == {"name": "1", "color": [0, 0, 255]}
    assert third["properties"] == {"objectType": "cell", "name": "cell-2", "measurements": {"student_confidence": 1}}
    # A square of 2 µm around (10, 10) µm: x_px = 2 (60 - y), y_px = 2 (x - 10).
    np.testing.assert_allclose([ring(first).min(axis=0), ring(first).max(axis=0)], [[98, -2], [102, 2]])
    assert (ring(first)[0] == ring(first)[-1]).all()


@pytest.mark.parametrize("ending", ["geojson", "geojson.gz"])
def test_a_file_of_others_is_kept(slide: SpatialData, tmp_path: Path, ending: str) -> None:
    """Annotations drawn in QuPath are not replaced; what was written here before is."""
    drawn = b'{"type":"FeatureCollection","features":[{"type":"Feature","id":"1"}]}'
    drawn = gzip.compress(drawn) if ending.endswith("gz") else drawn
    path = tmp_path / f"annotations.{ending}"
    path.write_bytes(drawn)
    with pytest.raises(FileExistsError, match=r"annotations.* stdistill did not write it"):
        sd.io.to_geojson(slide, path, key="student_niche")
    assert path.read_bytes() == drawn
    path.write_bytes(b"")
    for key in ("student_niche", "student_niche"):
        sd.io.to_geojson(slide, path, key=key)
    assert len(load(path)) == 3


def test_circles_and_nuclei(make_slide: Callable[..., SpatialData], tmp_path: Path) -> None:
    slide = add_niches(make_slide(CENTERS, he_to_global=TURNED), ["0", "1", "1"])
    slide["nuclei"] = slide.shapes.pop("cells")
    slide["table"].obs["region"] = pd.Categorical(["nuclei"] * 3)
    slide.set_table_annotates_spatialelement("table", region="nuclei")
    first = load(sd.io.to_geojson(slide, tmp_path / "a.json", key="student_niche"))[0]
    assert first["properties"]["objectType"] == "detection"
    assert len(ring(first)) == 17
    np.testing.assert_allclose(np.linalg.norm(ring(first) - [100, 0], axis=1), 4, atol=0.01)  # 2 µm


def test_what_is_missing_is_left_out(slide: SpatialData, tmp_path: Path) -> None:
    table = slide["table"]
    table.obs["student_ood"] = np.array([1.25, np.nan, np.inf], dtype=np.float32)
    table.obs["student_confidence"] = np.array([0.123456789, 0.5, np.nan])
    features = load(sd.io.to_geojson(slide, tmp_path / "a.geojson", key="student_niche"))
    measured = [each["properties"].get("measurements") for each in features]
    assert measured == [{"student_confidence": 0.123457, "student_ood": 1.25}, {"student_confidence": 0.5}, None]
    chosen = load(sd.io.to_geojson(slide, tmp_path / "a.geojson", key="student_niche", measurements=["student_ood"]))
    assert chosen[0]["properties"]["measurements"] == {"student_ood": 1.25}
    none = load(sd.io.to_geojson(slide, tmp_path / "a.geojson", key="student_niche", measurements=[]))
    assert "measurements" not in none[0]["properties"]
    with pytest.raises(KeyError, match=r"measurements='area' is not a column of \.obs"):
        sd.io.to_geojson(slide, tmp_path / "b.geojson", key="student_niche", measurements="area")
    with pytest.raises(TypeError, match="expected numbers"):
        sd.io.to_geojson(slide, tmp_path / "b.geojson", key="student_niche", measurements="student_niche")
    assert not list(tmp_path.glob("*b.geojson"))


def test_names_that_would_be_two_classes(make_slide: Callable[..., SpatialData], tmp_path: Path) -> None:
    names = ["T cells: CD4", 'B "naïve":\nfew']
    slide = add_niches(make_slide(CENTERS), [names[0], names[1], None], names)
    features = load(sd.io.to_geojson(slide, tmp_path / "a.geojson", key="student_niche"))
    assert [each["properties"]["classification"]["name"] for each in features[:2]] == [
        "T cells - CD4",
        'B "naïve"- few',
    ]
    slide = add_niches(make_slide(CENTERS), ["a: b", "a - b", None], ["a: b", "a - b"])
    with pytest.raises(ValueError, match=r"\['a: b', 'a - b'\] would all be named 'a - b' in QuPath"):
        sd.io.to_geojson(slide, tmp_path / "b.geojson", key="student_niche")


def test_bounds(slide: SpatialData, tmp_path: Path) -> None:
    def corner(**options: Any) -> list[float]:
        features = load(sd.io.to_geojson(slide, tmp_path / "a.geojson", key="student_niche", **options))
        return ring(features[0]).min(axis=0).tolist()

    assert corner(in_bounds=True) == corner() == [98, -2]  # without bounds nothing changes
    write_slide_record(slide["table"], SlideRecord("slide"))
    slide["table"].uns["stdistill"]["slide"]["bounds"] = np.array([90, 5, 500, 400])
    assert corner(in_bounds=True) == [8, -7]
    assert corner() == [98, -2]
    write_slide_record(slide["table"], SlideRecord("slide", image_key="another", bounds=(90, 5, 500, 400)))
    assert corner(in_bounds=True) == [98, -2]  # they are those of another image
    write_slide_record(slide["table"], SlideRecord("slide"))
    write_slide_record(slide, SlideRecord("slide", image_key="he", bounds=(90, 5, 500, 400)))
    assert corner(in_bounds=True) == [8, -7]  # where the SpatialData alone knows them
    whole, cut = (
        load(sd.io.to_geojson(slide, tmp_path / "r.geojson", key="student_niche", as_regions=True, in_bounds=cut))
        for cut in (False, True)
    )
    np.testing.assert_allclose(ring(whole[0]) - ring(cut[0]), np.tile([90, 5], (len(ring(cut[0])), 1)), atol=0.011)


def test_regions_with_holes(make_slide: Callable[..., SpatialData], tmp_path: Path) -> None:
    """A field of one niche around a block of another, and a cell far away."""
    x, y = (each.ravel() for each in np.meshgrid(np.arange(100, 200, 10.0), np.arange(100, 200, 10.0)))
    inner = (np.abs(x - 145) < 20) & (np.abs(y - 145) < 20)
    centers = np.r_[np.c_[x, y], [[300, 150]]]
    slide = add_niches(make_slide(centers, shape=(2000, 2000)), [*np.where(inner, "1", "0").tolist(), "1"])
    field, block = load(sd.io.to_geojson(slide, tmp_path / "a.geojson", key="student_niche", as_regions=True))
    assert field["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "0", "color": [255, 0, 0]},
        "color": [255, 0, 0],
        "measurements": {"Num cells": 84},
    }
    assert block["geometry"]["type"] == "MultiPolygon"
    assert len(block["geometry"]["coordinates"]) == 2
    around, inside = (shapely.geometry.shape(each["geometry"]) for each in (field, block))
    assert len(around.interiors) == 1
    to_um = 0.2125**2
    assert sum(each.area for each in inside.geoms) * to_um == pytest.approx(40 * 40 + np.pi * 20**2, rel=0.1)
    assert around.area * to_um == pytest.approx(90**2 - 40**2 + 4 * 90 * 20 + np.pi * 20**2, rel=0.1)
    assert around.intersection(inside).area < 0.03 * inside.area
    cells = shapely.points(centers[:-1] / 0.2125)
    assert (shapely.contains(around, cells) == ~inner).all()
    assert (shapely.contains(inside, cells) == inner).all()


def test_no_region_around_cells_without_a_niche(make_slide: Callable[..., SpatialData], tmp_path: Path) -> None:
    centers = np.c_[np.arange(0, 100, 10.0), np.full(10, 50.0)]
    slide = add_niches(make_slide(centers), ["0"] * 5 + [None] * 5)
    (region,) = load(sd.io.to_geojson(slide, tmp_path / "a.geojson", key="student_niche", as_regions=True))
    assert ring(region)[:, 0].max() * 0.2125 == pytest.approx(45, abs=2.6)
    table = slide["table"].copy()
    write_slide_record(table, SlideRecord("xenium", 10, "he", 0.2125, np.diag([1 / 0.2125] * 2 + [1]), (400, 300)))
    (alone,) = load(sd.io.to_geojson(table, tmp_path / "b.geojson", key="student_niche", as_regions=True))
    assert alone == region
    with pytest.raises(TypeError, match="An AnnData holds no outlines of its cells"):
        sd.io.to_geojson(table, tmp_path / "c.geojson", key="student_niche")


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_what_is_written_is_read(bundle: Path, tmp_path: Path, name: str) -> None:
    """By our own reader of annotations, which gives each cell its type back, and by geopandas."""
    slide = sd.pp.read_xenium(bundle)
    path = sd.io.to_geojson(slide, tmp_path / name, key="cell_type")
    types = slide["table"].obs["cell_type"]
    from stdistill._formats.annotations import label_by_polygons

    pixels = sd.get.he_pixels(slide)
    with pytest.warns(UserWarning, match=rf"{types.isna().sum()} of 800 features of .* without a class"):
        labels = label_by_polygons(pixels[["x", "y"]].to_numpy(), path, "pixels of the H&E")
    found = pd.Series([labels.names[code] if code >= 0 else None for code in labels.codes], index=types.index)
    known = types.notna()
    assert (found[known] == types[known].str.replace(": ", " - ")).mean() > 0.98  # circles of neighbours overlap
    if name.endswith(".gz"):
        (tmp_path / "plain.geojson").write_bytes(gzip.decompress(path.read_bytes()))
        path = tmp_path / "plain.geojson"
    frame = gpd.read_file(path)
    centers = np.c_[frame.geometry.centroid.x, frame.geometry.centroid.y] if frame.crs is None else None
    centers = shapely.get_coordinates(shapely.centroid(frame.geometry.to_numpy())) if centers is None else centers
    np.testing.assert_allclose(centers, pixels[["x", "y"]], atol=0.02)
    assert frame["name"].tolist() == slide["table"].obs_names.tolist()


def test_equal_cells_make_equal_files(slide: SpatialData, tmp_path: Path) -> None:
    contents = {
        sd.io.to_geojson(slide, tmp_path / name, key="student_niche").read_bytes()
        for name in ("a.geojson.gz", "b.geojson.gz")
    }
    assert len(contents) == 1


def test_several_blocks(slide: SpatialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stdistill.io import _to_geojson

    whole = sd.io.to_geojson(slide, tmp_path / "a.geojson", key="student_niche").read_bytes()
    monkeypatch.setattr(_to_geojson, "BLOCK_CELLS", 2)
    assert sd.io.to_geojson(slide, tmp_path / "b.geojson", key="student_niche").read_bytes() == whole


def test_bad_input(make_slide: Callable[..., SpatialData], slide: SpatialData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"QuPath opens GeoJSON by its name.*\.geojson\.gz"):
        sd.io.to_geojson(slide, tmp_path / "niches.csv", key="student_niche")
    with pytest.raises(KeyError, match=r"key='niche' is not a column of \.obs"):
        sd.io.to_geojson(slide, tmp_path / "a.geojson", key="niche")
    labels = add_niches(make_slide(60, kind="labels"), ["0"] * 60)
    with pytest.raises(ValueError, match=r"annotates the labels 'cells'.*spatialdata\.to_polygons"):
        sd.io.to_geojson(labels, tmp_path / "a.geojson", key="student_niche")
    del slide.images["he"]
    with pytest.raises(KeyError, match="image_key='he' is not an image"):
        sd.io.to_geojson(slide, tmp_path / "a.geojson", key="student_niche")
    slide["table"].obs["student_niche"] = pd.Categorical([None] * 3, categories=["0"])
    with pytest.raises(ValueError, match="is missing for all of the 3 cells"):
        sd.io.to_geojson(slide, tmp_path / "a.geojson", key="student_niche")
    assert not list(tmp_path.iterdir())


def test_a_part_of_the_image(bundle: Path, tmp_path: Path) -> None:
    """Pixels count from the corner of the image that is there; on the whole file they are out of place."""
    whole = sd.pp.read_xenium(bundle)
    box = {"min_coordinate": [300, 300], "max_coordinate": [1300, 1300], "target_coordinate_system": "global"}
    part = bounding_box_query(whole, axes=("x", "y"), **box)
    name = part["table"].obs_names[0]
    corner = (sd.get.he_pixels(whole).loc[name, ["x", "y"]] - sd.get.he_pixels(part).loc[name, ["x", "y"]]).to_list()
    expected = rf"not the whole image .*its corner lies at \({corner[0]:.0f}, {corner[1]:.0f}\)"
    for as_regions in (False, True):
        with pytest.warns(UserWarning, match=expected):
            sd.io.to_geojson(part, tmp_path / "part.geojson", key="cell_type", as_regions=as_regions)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.io.to_geojson(whole, tmp_path / "whole.geojson", key="cell_type")
