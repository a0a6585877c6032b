from __future__ import annotations

import gzip
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdistill._formats.annotations import label_by_polygons
from stdistill._formats.geojson import read_features
from stdistill._measures.labels import Labels
from stdistill._table.annotations import FRAMES, points_of_cells
from stdistill._table.he.placement import he_frames
from stdistill._table.records import write_record

CENTERS = np.array([[5.0, 5], [15, 5], [25, 5], [95, 95]])
PIXEL_SIZE = 0.2125
TURNED = np.array([[0, 0.5, 10], [-0.5, 0, 60], [0, 0, 1]])
"""H&E pixels of 0.5 µm to µm: a quarter turn. x = y_px / 2 + 10, y = 60 - x_px / 2."""
MIRRORED = np.array([[0, 0.5, 10], [0.5, 0, 0], [0, 0, 1]])
"""The same, with the axes exchanged instead: x = y_px / 2 + 10, y = x_px / 2."""


def square(left: float, right: float, **properties: Any) -> dict[str, Any]:
    ring = [[left, 0], [right, 0], [right, 10], [left, 10], [left, 0]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def labels(path: Path, content: Any) -> list[str | None]:
    return named(label_by_polygons(CENTERS, write(path / "annotations.geojson", content), FRAMES["um"]))


def named(found: Labels) -> list[str | None]:
    return [found.names[code] if code >= 0 else None for code in found.codes]


def test_as_qupath_writes_it(tmp_path: Path) -> None:
    tumour = square(0, 10, objectType="annotation", classification={"name": "Tumor 1", "color": [200, 0, 0]})
    derived = square(10, 20, classification={"names": ["Tumor", "Necrosis"], "color": [0, 0, 0]})
    named = square(20, 30, name="Störung")
    collection = {"type": "FeatureCollection", "features": [tumour, derived, named]}
    assert labels(tmp_path, collection) == ["Tumor 1", "Tumor: Necrosis", "Störung", None]
    assert labels(tmp_path, [tumour, derived]) == ["Tumor 1", "Tumor: Necrosis", None, None]
    assert labels(tmp_path, tumour) == ["Tumor 1", None, None, None]
    assert labels(tmp_path, [square(0, 30, classification="Stroma")])[:3] == ["Stroma"] * 3


@pytest.mark.parametrize("scale", [0.274, 0.25])
def test_polygons_that_were_drawn_at_another_scale(scale: float, tmp_path: Path) -> None:
    """µm that are read as pixels, and a picture that was exported smaller: all lie in the upper left quarter."""
    centers = np.random.default_rng(0).uniform(0, 2000, (4000, 2))

    def drawn(scale: float, n: int = 4) -> Path:
        squares = []
        for number in range(n):
            left, top = scale * 1000 * (number % 2), scale * 1000 * (number // 2)
            ring = [[left + x, top + y] for x, y in scale * 900 * np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])]
            properties = {"classification": {"name": f"region {number}"}}
            squares.append({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}})
            squares[-1]["properties"] = properties
        return write(tmp_path / "annotations.geojson", squares)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = label_by_polygons(centers, drawn(1.0), FRAMES["px"])
        label_by_polygons(centers, drawn(scale, n=2), FRAMES["px"])  # two may lie anywhere
    assert found.known.mean() == pytest.approx(0.81, abs=0.02)
    with pytest.warns(UserWarning, match=r"All 4 polygons of .* upper left quarter .* the cells x 1 to 2000.*\"um\""):
        label_by_polygons(centers, drawn(scale), FRAMES["px"])


def test_the_smallest_polygon_counts(tmp_path: Path) -> None:
    inner, outer = square(0, 12, classification={"name": "in"}), square(0, 30, classification={"name": "out"})
    for features in ([inner, outer], [outer, inner]):
        assert labels(tmp_path, features) == ["in", "out", "out", None]


def test_holes_parts_and_crossing_rings(tmp_path: Path) -> None:
    holed = square(0, 30, classification={"name": "holed"})
    holed["geometry"]["coordinates"].append([[12, 2], [18, 2], [18, 8], [12, 8], [12, 2]])
    assert labels(tmp_path, [holed]) == ["holed", None, "holed", None]
    parts = square(0, 10, classification={"name": "parts"})
    parts["geometry"] = {
        "type": "MultiPolygon",
        "coordinates": [[parts["geometry"]["coordinates"][0]], [square(20, 30)["geometry"]["coordinates"][0]]],
    }
    assert labels(tmp_path, [parts]) == ["parts", None, "parts", None]
    bow = square(0, 30, classification={"name": "bow"})
    bow["geometry"]["coordinates"] = [[[0, 0], [30, 10], [30, 0], [0, 10], [0, 0]]]
    assert labels(tmp_path, [bow]) == ["bow", "bow", "bow", None]


def test_features_without_a_class_are_passed_over(tmp_path: Path) -> None:
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 5]}, "properties": {"name": "x"}}
    unclassified = {**square(0, 30), "properties": None}
    with pytest.warns(UserWarning, match=r"2 of 3 features of .* are left out: 1 that are no polygons but Point"):
        assert labels(tmp_path, [point, unclassified, square(0, 10, name="a")]) == ["a", None, None, None]


def with_geometry(geometry: Any, name: str) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


def test_one_odd_feature_does_not_spoil_the_others(tmp_path: Path) -> None:
    nan = square(0, 10)["geometry"]
    nan["coordinates"][0][1] = [float("nan"), 3]
    odd = [
        with_geometry(None, "Tumor"),
        with_geometry(nan, "Vessel"),
        with_geometry({"type": "Polygon", "coordinates": [[[0, 0], [9, "x"], [9, 9]]]}, "Vessel"),
        with_geometry({"type": "Polygon", "coordinates": []}, "Nerve"),
        with_geometry({"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [0, 0]]]}, "Nerve"),
        with_geometry({"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [9, 9], [0, 0]]]}, "Nerve"),
        with_geometry({"type": "LineString", "coordinates": [[0, 0], [9, 9]]}, "Duct"),
        with_geometry({"type": "GeometryCollection", "geometries": []}, "Duct"),
        with_geometry({"type": "Square"}, "Duct"),
        {"type": "Feature", "properties": {}},
        "no feature",
    ]
    with pytest.warns(UserWarning, match="left out") as caught:
        found = labels(tmp_path, [*odd, square(0, 10, name="Tumor"), square(20, 30, name="Stroma")])
    assert found == ["Tumor", None, "Stroma", None]
    (message,) = [str(each.message) for each in caught]
    assert "11 of 13 features of" in message
    assert "2 with coordinates that are missing or NaN (1 of class 'Vessel', 1 of class 'Nerve')" in message
    assert "1 with polygons that have no area (1 of class 'Nerve')" in message
    assert "1 with coordinates that are no pairs of numbers (1 of class 'Vessel')" in message
    assert "1 that are no polygons but LineString (1 of class 'Duct')" in message
    assert message.endswith("Nothing is left of the classes 'Duct', 'Nerve', 'Vessel'.")


def test_parts_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    good, bad = (square(0, 10)["geometry"]["coordinates"] for _ in range(2))
    bad[0][1] = [None, 0]
    parts = with_geometry({"type": "MultiPolygon", "coordinates": [good, bad]}, "Tumor")
    with pytest.warns(UserWarning, match="1 of 1 features of .* lose parts with coordinates that are missing.*'Tumor'"):
        assert labels(tmp_path, [parts]) == ["Tumor", None, None, None]


def test_what_make_valid_leaves(tmp_path: Path) -> None:
    """Polygons beside a line in a collection: the polygons are the annotation."""
    squares = [square(0, 10)["geometry"], square(20, 30)["geometry"]]
    line = {"type": "LineString", "coordinates": [[10, 5], [20, 5]]}
    nested = {"type": "GeometryCollection", "geometries": [{"type": "GeometryCollection", "geometries": squares}, line]}
    assert labels(tmp_path, [with_geometry(nested, "Tumor")]) == ["Tumor", None, "Tumor", None]
    # A spike: valid only as a polygon and a line.
    spike = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [18, 10], [10, 10], [0, 10], [0, 0]]]}
    assert labels(tmp_path, [with_geometry(spike, "Tumor")]) == ["Tumor", None, None, None]


def test_other_spellings(tmp_path: Path) -> None:
    as_text = square(0, 10, classification='{"name": "Tumor", "color": [1, 2, 3]}')  # as GeoDataFrame.to_file writes it
    open_ring = square(10, 20, name="Stroma")
    del open_ring["geometry"]["coordinates"][0][-1]
    one_part = square(20, 30, name="Duct")
    one_part["geometry"] = {"type": "MultiPolygon", "coordinates": [one_part["geometry"]["coordinates"]]}
    high = square(90, 100, name="{odd")
    high["geometry"]["coordinates"] = [[[x, 90 + y, 7.5] for x, y in high["geometry"]["coordinates"][0]]]
    assert labels(tmp_path, [as_text, open_ring, one_part, high]) == ["Tumor", "Stroma", "Duct", "{odd"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.filterwarnings("ignore:.*was read as Windows-1252")
def test_encodings_and_compression(tmp_path: Path, encoding: str) -> None:
    text = json.dumps({"features": [square(0, 10, name="Störung")]}, ensure_ascii=False).encode(encoding)
    (tmp_path / "a.geojson").write_bytes(text)
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.geojson", text)
    for name in ("a.geojson", "a.geojson.gz", "a.zip"):
        found = label_by_polygons(CENTERS, tmp_path / name, FRAMES["um"])
        assert named(found) == ["Störung", None, None, None]


def test_a_selection_of_xenium_explorer(tmp_path: Path) -> None:
    path = tmp_path / "Selection_1_coordinates.csv"
    path.write_text("#Selection name: Tumor, left\n#Area (µm^2): 100\nX,Y\n0,0\n10,0\n10,10\n0,10\n", encoding="utf-8")
    assert named(label_by_polygons(CENTERS, path, FRAMES["um"], "um")) == ["Tumor, left", None, None, None]
    with pytest.raises(ValueError, match=r'in µm: give polygons_unit="um"'):
        label_by_polygons(CENTERS, path, FRAMES["px"])
    several = [(name, x, y) for name, low in (("A", 0), ("NA", 10)) for x, y in ((low, 0), (low + 9, 0), (low + 9, 9))]
    rows = [f"{name},{x},{y}" for name, x, y in [*several, ("C", 1, 1)]]
    path.write_text("\n".join(["#Selection names: A,NA,C", "#Areas (µm^2): 1,2,0", "Selection,X,Y", *rows]))
    assert named(label_by_polygons(CENTERS, path, FRAMES["um"], "um")) == ["A", "NA", None, None]
    path.write_text("cell_id,group\na,b\n")
    with pytest.raises(
        ValueError, match=r"is no selection of Xenium Explorer .* has the columns \['cell_id', 'group'\]"
    ):
        label_by_polygons(CENTERS, path, FRAMES["um"], "um")
    path.write_text("X,Y\n1,2\n")
    with pytest.raises(ValueError, match="no outline of three or more places"):
        label_by_polygons(CENTERS, path, FRAMES["um"], "um")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file of polygons"):
        label_by_polygons(CENTERS, tmp_path / "nowhere.geojson", FRAMES["um"])
    for content in ({"features": [{"properties": {}}]}, 3, [1], [{"geometry": {"type": "Square"}}]):
        with pytest.raises(ValueError, match="is not GeoJSON with features"):
            labels(tmp_path, content)
    path = tmp_path / "text.geojson"
    path.write_text("no json")
    with pytest.raises(ValueError, match="is not GeoJSON"):
        label_by_polygons(CENTERS, path, FRAMES["um"])
    with pytest.raises(ValueError, match=r"None of the 1 features of .* is a polygon with a class.*without a class"):
        labels(tmp_path, [square(0, 10)])
    with pytest.raises(ValueError, match="GeoJSON without any features: it was exported empty"):
        labels(tmp_path, {"type": "FeatureCollection", "features": []})
    path.write_text("<html>Sign in</html>")
    with pytest.raises(ValueError, match=r"text\.geojson is not GeoJSON .*HTML page.*download it again"):
        label_by_polygons(CENTERS, path, FRAMES["um"])


def test_polygons_that_cover_no_cell(tmp_path: Path) -> None:
    far = square(4000, 5000, name="Tumor 1")
    with pytest.raises(ValueError, match=r"cover no cell: they span x 4000 to 5000 and y 0 to 10, the cells x 5 to 95"):
        labels(tmp_path, [far])
    path = write(tmp_path / "annotations.geojson", [far, far, square(0, 10, name="Tumor 2")])
    with pytest.warns(UserWarning, match=r"Only 1 of the 3 polygons of .* taken to be in pixels of the H&E"):
        found = label_by_polygons(CENTERS, path, FRAMES["px"])
    assert named(found) == ["Tumor 2", None, None, None]


def test_cells_that_are_nowhere_in_the_frame(tmp_path: Path) -> None:
    points = CENTERS.copy()
    points[1] = np.nan
    path = write(tmp_path / "annotations.geojson", [square(0, 30, name="in")])
    assert named(label_by_polygons(points, path, FRAMES["px"])) == ["in", None, "in", None]
    with pytest.raises(ValueError, match="No cell has a place in pixels of the H&E"):
        label_by_polygons(np.full_like(points, np.nan), path, FRAMES["px"])


@pytest.mark.parametrize(
    ("he_to_um", "pixels"),
    [
        (TURNED, [[40, 10], [20, 20], [80, 60], [10, 90]]),
        (MIRRORED, [[80, 10], [100, 20], [40, 60], [110, 90]]),
    ],
    ids=["turned", "mirrored"],
)
def test_pixels_of_the_he_by_hand(make_slide: Callable, tmp_path: Path, he_to_um: np.ndarray, pixels: list) -> None:
    """Polygons around three of four cells, where the alignment puts these on the H&E."""
    centers = np.array([[15.0, 40], [20, 50], [40, 20], [55, 55]])
    slide = make_slide(centers, he_to_global=np.diag([1 / PIXEL_SIZE, 1 / PIXEL_SIZE, 1]) @ he_to_um)
    features = []
    for (x, y), name in zip(pixels, "abc", strict=False):
        ring = [[x - 2, y - 2], [x + 2, y - 2], [x + 2, y + 2], [x - 2, y + 2], [x - 2, y - 2]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": {"name": name}})
    path = write(tmp_path / "qupath.geojson", features)

    points = points_of_cells(slide, "px")
    np.testing.assert_allclose(points, pixels)
    assert named(label_by_polygons(points, path, FRAMES["px"])) == ["a", "b", "c", None]
    np.testing.assert_array_equal(points_of_cells(slide, "um"), centers)

    table = slide["table"].copy()  # alone it knows by its record, or not at all
    with pytest.raises(ValueError, match=r'lie there is not known.*pass the SpatialData.*polygons_unit="um"'):
        points_of_cells(table, "px")
    np.testing.assert_array_equal(points_of_cells(table, "um"), centers)
    (frame,) = he_frames(slide)
    write_record(table, "read_xenium", um_to_he=frame.um_to_px, he_shape=np.array(frame.shape), image_key="he")
    np.testing.assert_allclose(points_of_cells(table, "px"), pixels)


@pytest.mark.parametrize(
    ("coordinates", "names"), [([[[1], [2], [3], [1]]], ["a"]), ([[[0, 0], [9, 0], [9, 9], [0, 0]]], 3.5)]
)
def test_numbers_where_pairs_or_names_should_be(tmp_path: Path, coordinates: object, names: object) -> None:
    whole = [[[0, 0], [9, 0], [9, 9], [0, 0]]]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": each}, "properties": {"classification": of}}
        for each, of in ((coordinates, {"names": names}), (whole, {"name": "whole"}))
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = read_features(path)
    assert found.classes.tolist() == ["a" if names == ["a"] else "", "whole"]
    assert (found.geometries[0] is None) == (coordinates != whole)
    assert found.geometries[1].area == 40.5


def test_another_image(make_slide: Callable) -> None:
    slide = make_slide(CENTERS)
    slide.images["scan"] = slide.images.pop("he")
    with pytest.raises(
        ValueError, match=r"image_key='he' is not an image of the SpatialData; there is: 'scan'.*\"um\""
    ):
        points_of_cells(slide, "px")
    slide = make_slide(CENTERS[:3])
    slide.images["scan"] = slide.images.pop("he")
    with pytest.warns(UserWarning, match="transformation is the identity"):
        found = points_of_cells(slide, "px", image_key="scan")
    np.testing.assert_allclose(found, CENTERS[:3] / PIXEL_SIZE)


def test_selections_whose_columns_are_in_other_capitals(tmp_path: Path) -> None:
    """Without the column Selection two squares would be one outline."""
    squares = [(name, x + left, y) for name, left in (("a", 0), ("b", 10)) for x, y in ((0, 0), (4, 0), (4, 4), (0, 4))]
    text = "selection,x,y\n" + "".join(f"{name},{x},{y}\n" for name, x, y in squares)
    (tmp_path / "two.csv").write_text(text)
    labels = label_by_polygons(np.array([[2.0, 2.0], [12.0, 2.0], [7.0, 2.0]]), tmp_path / "two.csv", "it", "um")
    assert [labels.names[code] if code >= 0 else None for code in labels.codes] == ["a", "b", None]
