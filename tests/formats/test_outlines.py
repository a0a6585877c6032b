from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from shapely import LineString, Point, Polygon, box

import stdistill as sd
from stdistill._formats.outlines import read_outlines

SQUARES = [box(0, 0, 4, 4), box(10, 10, 14, 14), box(20, 0, 26, 6)]


def feature(geometry: Any, **others: Any) -> dict[str, Any]:
    properties = {"objectType": others.pop("kind", "detection"), **others.pop("properties", {})}
    return {"type": "Feature", "geometry": shapely.geometry.mapping(geometry), "properties": properties, **others}


def write(path: Path, features: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_geojson_of_qupath(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", [feature(each, id=f"u{i}") for i, each in enumerate(SQUARES)])
    found = read_outlines(path, "px")
    assert [each.equals(square) for each, square in zip(found.geometries, SQUARES, strict=True)] == [True] * 3
    assert found.ids.tolist() == ["u0", "u1", "u2"]
    assert found.unit == "px"
    assert found.bounds.tolist() == [0, 0, 26, 14]
    np.testing.assert_allclose(found.centers, [[2, 2], [12, 12], [23, 3]])
    assert found.median_diameter == pytest.approx(2 * np.sqrt(16 / np.pi))
    moved = found.move(100, -5)
    assert moved.bounds.tolist() == [100, -5, 126, 9]
    assert (moved.ids.tolist(), moved.unit) == (found.ids.tolist(), "px")


def test_cells_of_qupath_with_nuclei(tmp_path: Path) -> None:
    """The nucleus stands for the cell, which stands for itself where it has none; the tissue around them is neither."""
    cell = feature(SQUARES[0], kind="cell", nucleusGeometry=shapely.geometry.mapping(box(1, 1, 2, 2)))
    features = [
        cell,
        feature(SQUARES[1], kind="cell"),
        feature(box(0, 0, 50, 50), kind="annotation", properties={"name": "T"}),
    ]
    with pytest.warns(UserWarning, match="1 of 3 features of .* left out: 1 that are annotations around the cells"):
        found = read_outlines(write(tmp_path / "a.geojson", features), "px")
    assert shapely.area(found.geometries).tolist() == [1, 16]
    assert found.ids.tolist() == [1, 2, 3][:2]


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    bow = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    odd = [
        feature(bow),
        feature(Point(3, 3)),
        feature(LineString([(0, 0), (1, 1)])),
        {"type": "Feature", "geometry": None},
    ]
    with pytest.warns(UserWarning, match="3 of 4 features of .* are left out") as caught:
        found = read_outlines(write(tmp_path / "a.json", odd), "px")
    message = str(caught[0].message)
    assert "no polygons but Point" in message
    assert "without a geometry" in message
    assert found.geometries[0].area == 2
    with pytest.raises(ValueError, match=r"holds no nuclei: there are 1 without a geometry"):
        read_outlines(write(tmp_path / "a.json", odd[3:]), "px")


def test_ids_that_repeat(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", [feature(each, id="same") for each in SQUARES])
    with pytest.warns(UserWarning, match="2 of 3 nuclei of .* have the id of another one: they are numbered"):
        assert read_outlines(path, "px").ids.tolist() == [1, 2, 3]


def test_points_of_geojson(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", [feature(Point(1, 2)), feature(Point(3, 4))])
    found = read_outlines(path, "um")
    assert found.centers.tolist() == [[1, 2], [3, 4]]
    assert np.isnan(found.median_diameter)


@pytest.mark.parametrize("name", ["a.tif", "a.npy", "array"])
def test_label_images(tmp_path: Path, name: str) -> None:
    labels = np.zeros((20, 30), dtype=np.uint16)
    labels[2:6, 3:9], labels[10:14, 20:24] = 1, 9
    source: Any = tmp_path / name
    if name == "a.tif":
        tifffile.imwrite(source, labels, compression="zlib")
    elif name == "a.npy":
        np.save(source, labels)
    else:
        source = labels
    found = read_outlines(source, "px")
    assert found.ids.tolist() == [1, 9]
    assert [each.bounds for each in found.geometries] == [(3, 2, 9, 6), (20, 10, 24, 14)]
    with pytest.raises(ValueError, match="outlines are in pixels: give them as 'px'"):
        read_outlines(source, "um")


def test_images_that_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"\(20, 20, 3\) and holds uint8; a label image is expected as \(height, width\)"
    ):
        read_outlines(np.ones((20, 20, 3), np.uint8), "px")
    with pytest.raises(ValueError, match="holds float64"):
        read_outlines(np.ones((20, 20)), "px")
    with pytest.raises(ValueError, match="holds no nuclei"):
        read_outlines(np.zeros((20, 20), int), "px")
    with pytest.warns(UserWarning, match="holds one label only: is it a mask of all nuclei"):
        read_outlines(np.ones((200, 200), int), "px")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0v\0")
    with pytest.raises(ValueError, match=r"a\.npy is no label image \(it is an array of numpy; .*copy it again"):
        read_outlines(tmp_path / "a.npy", "px")
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"b\.npy is no label image"):  # nothing is unpickled
        read_outlines(tmp_path / "b.npy", "px")


def test_frames_and_geoparquet(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"type": list("abc")}, geometry=SQUARES, index=["x", "y", "z"])
    frame.to_parquet(tmp_path / "a.parquet")
    for source in (frame, tmp_path / "a.parquet"):
        found = read_outlines(source, "um")
        assert found.ids.tolist() == ["x", "y", "z"]
        assert shapely.area(found.geometries).tolist() == [16, 16, 36]
    circles = gpd.GeoDataFrame({"radius": [2.0, 3.0]}, geometry=[Point(0, 0), Point(9, 9)])
    np.testing.assert_allclose(
        shapely.area(read_outlines(circles, "um").geometries), np.pi * np.array([4, 9]), rtol=0.03
    )
    points = gpd.GeoDataFrame(geometry=[Point(0, 1), Point(), Point(2, 3)])
    with pytest.warns(UserWarning, match="1 of 3"):
        assert read_outlines(points, "um").centers.tolist() == [[0, 1], [2, 3]]
    nan = Polygon([(0, 0), (1, 1), (float("nan"), 2)])
    mixed = gpd.GeoDataFrame(geometry=[SQUARES[0], None, LineString([(0, 0), (1, 1)]), nan])
    left_out = (
        "3 of 4 features of the GeoDataFrame are left out: 2 without an area; 1 with coordinates that are missing"
    )
    with pytest.warns(UserWarning, match=left_out):
        assert read_outlines(mixed, "um").ids.tolist() == [0]


@pytest.mark.parametrize("name", ["nucleus_boundaries", "cell_boundaries"])
@pytest.mark.parametrize("simulated", [True, False])
def test_boundaries_of_10x(request: pytest.FixtureRequest, name: str, simulated: bool) -> None:
    folder = request.getfixturevalue("bundle") if simulated else request.getfixturevalue("shared_data") / "xenium_toy"
    found = read_outlines(folder / f"{name}.parquet", "um")
    rows = pd.read_parquet(folder / f"{name}.parquet")
    key = "label_id" if "label_id" in rows else "cell_id"
    first = rows[rows[key] == rows[key].iloc[0]]
    assert found.geometries[0].equals(Polygon(first[["vertex_x", "vertex_y"]].to_numpy()))
    assert len(found.ids) == rows[key].nunique()
    assert 4 < found.median_diameter < 20
    if name == "cell_boundaries" and simulated:
        slide = sd.pp.read_xenium(folder, he_image=False)
        assert found.ids.tolist() == slide["table"].obs["cell_id"].tolist()
        np.testing.assert_allclose(found.centers, slide["table"].obsm["spatial"], atol=0.5)
    with pytest.raises(ValueError, match="in µm of the Xenium slide: give it as 'um'"):
        read_outlines(folder / f"{name}.parquet", "px")


def test_vertices_in_several_places(tmp_path: Path) -> None:
    corners = [np.array(each.exterior.coords) for each in SQUARES[:2]]
    rows = [("a", *corners[0][0]), ("b", *corners[1][0]), *(("a", *xy) for xy in corners[0][1:])]
    rows += [("b", *xy) for xy in corners[1][1:]]
    pd.DataFrame(rows, columns=["cell_id", "vertex_x", "vertex_y"]).to_parquet(tmp_path / "a.parquet")
    found = read_outlines(tmp_path / "a.parquet", "um")
    assert found.ids.tolist() == ["a", "b"]
    assert [each.equals(square) for each, square in zip(found.geometries, SQUARES, strict=False)] == [True, True]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("x,y\n1.5,2\n3,4\n", "px"),
        ("id;X;Y\na;1,5;2\nb;3;4\n", "um"),
        ("cell_id,x_centroid,y_centroid,area\na,1.5,2,9\nb,3,4,9\n", "um"),
        ("Object ID\tCentroid X px\tCentroid Y px\na\t1.5\t2\nb\t3\t4\n", "px"),
    ],
)
def test_centers_in_a_csv(tmp_path: Path, text: str, unit: Any) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-16")
    found = read_outlines(tmp_path / "a.csv", unit)
    assert found.centers.tolist() == [[1.5, 2], [3, 4]]
    assert found.ids.tolist() in ([1, 2], ["a", "b"])


def test_centers_that_are_bytes(tmp_path: Path) -> None:
    """As a spoilt file has them: no number, and no reason to give up the others."""
    path = tmp_path / "centers.parquet"
    pd.DataFrame({"x": [b"\xff\xfe", b"2"], "y": [1.0, 3.0]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"centers\.parquet"):
        read_outlines(path, "um")


def test_a_csv_in_another_unit_or_form(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Object ID,Centroid X µm,Centroid Y µm\na,1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has its centres in 'Centroid X µm': give them as 'um', not 'px'"):
        read_outlines(path, "px")
    path.write_text("left,top\n1,2\n")
    with pytest.raises(ValueError, match=r"has the columns \['left', 'top'\]; expected centres"):
        read_outlines(path, "px")
    path.write_text("x,y\n1,2\n,4\n5,none\n")
    with pytest.warns(UserWarning, match="2 of 3 features of .* left out: 2 with coordinates that are missing"):
        assert read_outlines(path, "px").ids.tolist() == [1]
    path.write_text("x,y\n")
    with pytest.raises(ValueError, match="holds no nuclei"):
        read_outlines(path, "px")


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file of nuclei"):
        read_outlines(tmp_path / "a.geojson", "px")
    (tmp_path / "a.doc").touch()
    with pytest.raises(ValueError, match=r"of no kind that is known by its name: expected GeoJSON"):
        read_outlines(tmp_path / "a.doc", "px")
    with pytest.raises(TypeError, match="Nuclei are given as a list"):
        read_outlines([1], "px")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"unit must be one of \['px', 'um'\]"):
        read_outlines(np.ones((2, 2), int), "mm")  # type: ignore[arg-type]
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ValueError, match=r"a\.parquet is no table of nuclei in Parquet \(it ends too early\)"):
        read_outlines(tmp_path / "a.parquet", "um")


def test_what_we_write_is_read(bundle: Path, tmp_path: Path) -> None:
    slide = sd.pp.read_xenium(bundle)
    path = sd.io.to_geojson(slide, tmp_path / "cells.geojson.gz", key="cell_type")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_outlines(path, "px")
    np.testing.assert_allclose(found.centers, sd.get.he_pixels(slide)[["x", "y"]], atol=0.02)


def test_vertices_in_other_letters(tmp_path: Path) -> None:
    rows = pd.DataFrame({"Cell_ID": ["a"] * 4, "Vertex_X": [0.0, 4, 4, 0], " VERTEX_Y": [0.0, 0, 3, 3]})
    rows.to_csv(tmp_path / "nuclei.csv", index=False)
    found = read_outlines(tmp_path / "nuclei.csv", "um")
    assert [each.area for each in found.geometries] == [12]
    assert found.ids.tolist() == ["a"]


@pytest.mark.parametrize("kind", ["annotation", None])
def test_regions_around_nuclei_that_are_annotations_too(tmp_path: Path, kind: str | None) -> None:
    """Nothing tells them apart but size and place: a region holds others, a large nucleus none."""
    nuclei = [box(10 * n, 0, 10 * n + 4, 4) for n in range(12)]
    large = box(0, 100, 40, 140)
    features = [feature(each, **({"kind": kind} if kind else {})) for each in [box(-5, -5, 200, 50), *nuclei, large]]
    with pytest.warns(UserWarning, match="1 of 14 features of .* left out: 1 that lie around others"):
        found = read_outlines(write(tmp_path / "a.geojson", features), "px")
    assert shapely.area(found.geometries).tolist() == [16.0] * 12 + [1600.0]
    frame = gpd.GeoDataFrame(geometry=[box(-5, -5, 200, 50), *nuclei])
    with pytest.warns(UserWarning, match="1 that lie around others"):
        assert read_outlines(frame, "px").ids.tolist() == list(range(1, 13))
