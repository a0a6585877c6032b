"""The pathologist's annotation: valid GeoJSON that follows the niches."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from shapely.geometry import shape

from stdistill.datasets._simulation.biology.templates import TEMPLATES
from stdistill.datasets._simulation.painting.frames import PIXEL_SIZE_UM, Alignment, draw_alignment
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.writing import pathology as regions
from stdistill.datasets._simulation.writing.pathology import write_pathology

if TYPE_CHECKING:
    from tests.datasets.conftest import SimulatedSlide

STRAIGHT = Alignment((4000, 4000), np.diag([2.0, 2.0, 1.0]))
"""Pixels of 0.425 µm, not turned."""


def write(path: Path, section: Section, alignment: Alignment) -> list[dict[str, Any]]:
    write_pathology(path, section, alignment)
    return list(json.loads(path.read_text())["features"])


def square(section: Section, low: float, high: float) -> Section:
    """A slide of the first region with a square of the last niche, between two places in µm."""
    tissue = section.tissue
    rows, columns = tissue.outline.shape
    y, x = ((np.arange(n) + 0.5) * tissue.step_um for n in (rows, columns))
    inner = ((y > low) & (y < high))[:, None] & ((x > low) & (x < high))[None]
    domains = np.full_like(tissue.domains, 255)
    domains[inner, :-1] = 0
    names = ("Tumor",) * (domains.shape[2] - 1) + ("Necrosis",)
    everywhere = np.full_like(tissue.outline, section.outline_level + 1)
    return dataclasses.replace(
        section,
        tissue=dataclasses.replace(tissue, domains=domains, outline=everywhere),
        niches=dataclasses.replace(section.niches, regions=names),
    )


@pytest.fixture(scope="module")
def features(section: Section, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    alignment = draw_alignment(np.random.default_rng(0), section.tissue.width_um, section.tissue.height_um, 0.274)
    return write(tmp_path_factory.mktemp("regions") / "a.geojson", section, alignment)


@pytest.fixture(scope="module")
def in_um(section: Section, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, shapely.Polygon]]:
    found = write(tmp_path_factory.mktemp("regions") / "b.geojson", section, STRAIGHT)
    return [
        (f["properties"]["classification"]["name"], shapely.transform(shape(f["geometry"]), lambda p: p * 0.425))
        for f in found
    ]


def test_regions_have_a_colour() -> None:
    assert {t.region for t in TEMPLATES.values()} == set(regions._COLORS)


def test_regions_are_valid_polygons(features: list[dict[str, Any]]) -> None:
    assert len(features) >= 3
    for feature in features:
        polygon = shape(feature["geometry"])
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        assert polygon.is_valid
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            assert len(ring) >= 4


def test_names_and_colours_are_those_of_the_regions(features: list[dict[str, Any]], section: Section) -> None:
    for feature in features:
        assert feature["properties"]["objectType"] == "annotation"
        classification = feature["properties"]["classification"]
        assert classification["name"] in section.niches.regions
        assert classification["color"] == regions._COLORS[classification["name"]]
        assert all(0 <= value <= 255 for value in classification["color"])


def test_identifiers_are_unique_and_uuids(features: list[dict[str, Any]]) -> None:
    ids = [feature["id"] for feature in features]
    assert len(set(ids)) == len(ids)
    assert [str(uuid.UUID(value)) for value in ids] == ids


def test_same_section_same_bytes(section: Section, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pathology(tmp_path / name, section, STRAIGHT)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_turned_image_holds_the_same_areas(
    features: list[dict[str, Any]], in_um: list[tuple[str, shapely.Polygon]]
) -> None:
    areas = [shape(f["geometry"]).area * 0.274**2 for f in features]
    np.testing.assert_allclose(areas, [polygon.area for _, polygon in in_um], rtol=0.01)


def test_cells_inside_have_niches_of_the_region(section: Section, in_um: list[tuple[str, shapely.Polygon]]) -> None:
    points = shapely.points(section.cells.x, section.cells.y)
    region = np.array(section.niches.regions)[section.cells.niche]
    right = total = 0
    for name, polygon in in_um:
        inside = shapely.contains(polygon, points)
        right += np.count_nonzero(region[inside] == name)
        total += np.count_nonzero(inside)
    assert total > 0.7 * len(points)
    # Coarse, and at gradual borders cells of both sides mingle.
    assert 0.75 < right / total < 1


def test_regions_hardly_overlap(in_um: list[tuple[str, shapely.Polygon]]) -> None:
    polygons = [polygon for _, polygon in in_um]
    assert shapely.union_all(polygons).area > 0.99 * sum(p.area for p in polygons)


def test_specks_are_left_out(in_um: list[tuple[str, shapely.Polygon]]) -> None:
    # Simplifying the outline moves it by up to 2 µm.
    assert min(polygon.area for _, polygon in in_um) > 0.85 * 4000


def test_a_square_is_found_where_it_lies(section: Section, tmp_path: Path) -> None:
    found = write(tmp_path / "a.geojson", square(section, 200, 600), STRAIGHT)
    necrosis, tumour = (
        [shape(f["geometry"]) for f in found if f["properties"]["classification"]["name"] == name]
        for name in ("Necrosis", "Tumor")
    )
    assert len(necrosis) == len(tumour) == 1
    # 200 µm are 470.6 pixels, 600 µm 1411.8; smoothing takes off the corners.
    np.testing.assert_allclose(necrosis[0].bounds, [470.6, 470.6, 1411.8, 1411.8], atol=5)
    assert necrosis[0].area == pytest.approx((400 / 0.425) ** 2, rel=0.02)
    # What surrounds the square has a hole.
    assert len(tumour[0].interiors) == 1
    assert not tumour[0].contains(shapely.Point(940, 940))


@pytest.mark.parametrize("thin", [3, 6])
def test_large_slides_are_thinned_without_a_shift(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thin: int
) -> None:
    drawn = square(section, 200, 632)
    monkeypatch.setattr(regions, "_RASTER", max(drawn.tissue.outline.shape) // thin)
    found = write(tmp_path / "a.geojson", drawn, STRAIGHT)
    (necrosis,) = (shape(f["geometry"]) for f in found if f["properties"]["classification"]["name"] == "Necrosis")
    left, top, right, bottom = np.array(necrosis.bounds) * 2 * PIXEL_SIZE_UM
    # 416 µm is the middle; samples every 4·thin µm may miss up to half of that at either side.
    assert (left + right) / 2 == pytest.approx(416, abs=2 * thin)
    assert (top + bottom) / 2 == pytest.approx(416, abs=2 * thin)
    assert right - left == pytest.approx(432, abs=4 * thin + 4)


def test_a_speck_of_tissue_has_no_regions(section: Section, tmp_path: Path) -> None:
    nowhere = dataclasses.replace(section, outline_level=float(section.tissue.outline.max()))
    write_pathology(tmp_path / "a.geojson", nowhere, STRAIGHT)
    assert json.loads((tmp_path / "a.geojson").read_text()) == {"type": "FeatureCollection", "features": []}


def test_pathology_is_qupath_geojson_over_the_tissue(outs: SimulatedSlide) -> None:
    collection = json.loads((outs.path / "simulated_pathology.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    rows, columns = outs.he.shape[:2]
    regions = [shape(feature["geometry"]) for feature in collection["features"]]
    assert regions
    for feature, region in zip(collection["features"], regions, strict=True):
        assert isinstance(region, shapely.Polygon)
        assert region.is_valid
        left, top, right, bottom = region.bounds
        assert -30 <= left <= right <= columns + 30
        assert -30 <= top <= bottom <= rows + 30
        assert feature["properties"]["classification"]["name"]
        assert len(feature["properties"]["classification"]["color"]) == 3
    covered = np.mean([any(r.contains(shapely.Point(p)) for r in regions) for p in outs.to_he(outs.centroids)[::5]])
    assert covered > 0.7


def test_regions_follow_the_niches(simulate: Callable[..., SimulatedSlide]) -> None:
    slide = simulate(n_cells=3000, seed=2, n_niches=3)
    features = json.loads((slide.path / "simulated_pathology.geojson").read_text())["features"]
    lymphoid = [f for f in features if f["properties"]["classification"]["name"] == "Lymphoid aggregate"]
    points = slide.to_he(slide.centroids)
    inside = np.array([any(shape(f["geometry"]).contains(shapely.Point(p)) for f in lymphoid) for p in points])
    niche = slide.truth["niche"] == "lymphoid aggregate"
    assert niche[inside].mean() > 0.6 > 0.3 > niche[~inside].mean()
