from __future__ import annotations

import numpy as np
import shapely
from shapely import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from stdistill._formats.polygons import build_polygons, join_parts, mend

SQUARE = [(0, 0), (4, 0), (4, 4), (0, 4)]
HOLE = [(1, 1), (2, 1), (2, 2), (1, 2), (1, 1)]


def build(*polygons: list[list[tuple[float, float]]]) -> list[Polygon | None]:
    rings = [ring for polygon in polygons for ring in polygon]
    points = np.array([point for ring in rings for point in ring], dtype=float).reshape(-1, 2)
    owner = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    return build_polygons(
        points, np.array([len(ring) for ring in rings], dtype=np.intp), owner.astype(np.intp), len(polygons)
    ).tolist()


def test_rings_open_and_closed_with_holes() -> None:
    found = build([SQUARE], [SQUARE, HOLE], [[*SQUARE, SQUARE[0]]])
    assert [each.area for each in found] == [16, 15, 16]
    assert all(each.exterior.is_closed for each in found)


def test_polygons_that_cannot_be_built_leave_the_others() -> None:
    nan = [*SQUARE[:3], (float("nan"), 1)]
    found = build(
        [nan], [SQUARE], [[(0, 0), (1, 1)]], [], [SQUARE, HOLE[:2]], [[(0, 0), (1, 1), (0, 0)]], [[]], [SQUARE]
    )
    assert [each is not None for each in found] == [False, True, False, False, False, False, False, True]
    assert build() == []


def test_parts_are_joined_and_single_ones_stay_single() -> None:
    parts = np.array([box(0, 0, 1, 1), None, box(2, 0, 3, 1), box(5, 5, 6, 6)], dtype=object)
    joined = join_parts(parts, np.array([0, 0, 0, 2]), 4).tolist()
    assert isinstance(joined[0], MultiPolygon)
    assert joined[0].area == 2
    assert joined[1:] == [None, box(5, 5, 6, 6), None]


def test_mending() -> None:
    bow = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    good = box(0, 0, 1, 1)
    kinds = np.array(
        [
            good,
            bow,
            GeometryCollection([good, Point(3, 3), MultiPolygon([box(4, 4, 5, 5)])]),
            LineString([(0, 0), (1, 1)]),
            None,
            Polygon([(0, 0), (1, 1), (2, 2)]),
            Polygon(),
        ],
        dtype=object,
    )
    mended = mend(kinds)
    assert mended[0] is good
    assert shapely.area(mended[1:3]).tolist() == [2, 2]
    assert shapely.is_valid(mended[:3]).all()
    assert shapely.is_missing(mended[3:]).all()
