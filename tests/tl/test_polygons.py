from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdistill.tl._polygons import label_by_polygons

CENTERS = np.array([[5.0, 5], [15, 5], [25, 5], [95, 95]])


def square(left: float, right: float, **properties: Any) -> dict[str, Any]:
    ring = [[left, 0], [right, 0], [right, 10], [left, 10], [left, 0]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def labels(path: Path, content: Any) -> list[str | None]:
    found = label_by_polygons(CENTERS, write(path / "annotations.geojson", content))
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
    assert labels(tmp_path, [point, unclassified, square(0, 10, name="a")]) == ["a", None, None, None]


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file of polygons"):
        label_by_polygons(CENTERS, tmp_path / "nowhere.geojson")
    for content in ({"features": [{"properties": {}}]}, 3, [1], [{"geometry": {"type": "Square"}}]):
        with pytest.raises(ValueError, match="is not GeoJSON with features"):
            labels(tmp_path, content)
    path = tmp_path / "text.geojson"
    path.write_text("no json")
    with pytest.raises(ValueError, match="is not GeoJSON"):
        label_by_polygons(CENTERS, path)
    with pytest.raises(ValueError, match=r"None of the 1 features of .* is a polygon with a class"):
        labels(tmp_path, [square(0, 10)])


def test_polygons_that_cover_no_cell(tmp_path: Path) -> None:
    far = square(4000, 5000, name="Tumor 1")
    with pytest.raises(ValueError, match=r"cover no cell: they span x 4000 to 5000 and y 0 to 10, the cells x 5 to 95"):
        labels(tmp_path, [far])
