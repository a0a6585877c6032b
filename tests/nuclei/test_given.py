from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy.spatial import KDTree
from skimage.measure import regionprops

from stdistill._nuclei.given import Fit, fit_of, outline_measures, sample_places

TISSUE = np.zeros((10, 20), dtype=bool)
TISSUE[2:8, 4:16] = True  # of an image of 1,000 × 2,000 px: x 400 to 1,600, y 200 to 800


def grid(spacing: float, *, left: float = 420, top: float = 220, n: int = 10) -> np.ndarray:
    x, y = np.meshgrid(left + spacing * np.arange(n), top + spacing * np.arange(n))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def ellipse(x: float, y: float, long: float, short: float, degrees: float) -> shapely.Polygon:
    disc = shapely.affinity.scale(shapely.Point(0, 0).buffer(1, quad_segs=64), long, short)
    return shapely.affinity.translate(shapely.affinity.rotate(disc, degrees), x, y)


def test_measures_of_known_shapes() -> None:
    bite = shapely.Polygon([(0, 0), (4, 0), (4, 4), (2, 1), (0, 4)])  # hull 16, area 10
    outlines = np.array([shapely.box(5, 5, 9, 7), ellipse(100, 50, 10, 6, 30), bite], dtype=object)
    area, eccentricity, solidity = outline_measures(outlines)
    np.testing.assert_allclose(area, (8, np.pi * 60, 10), rtol=1e-3)
    # A rectangle has the moments of an ellipse with the same ratio of axes.
    np.testing.assert_allclose(eccentricity[:2], (np.sqrt(1 - 1 / 4), 0.8), atol=1e-3)
    np.testing.assert_allclose(solidity, (1, 1, 10 / 16), atol=1e-9)


def test_holes_and_parts_count_as_pixels_do() -> None:
    ring = shapely.box(10, 20, 50, 40).difference(shapely.box(12, 22, 30, 38))
    parts = shapely.MultiPolygon([shapely.box(0, 0, 6, 6), shapely.box(20, 3, 26, 6)])
    for shape in (ring, parts):
        rows, columns = np.mgrid[:60, :60] + 0.5
        (pixels,) = regionprops(shapely.contains_xy(shape, columns, rows).astype(int))
        area, eccentricity, _ = outline_measures(np.array([shape], dtype=object))
        assert area[0] == pixels.area
        assert eccentricity[0] == pytest.approx(pixels.eccentricity, abs=0.01)


def test_the_way_that_rings_turn_does_not_matter() -> None:
    outline = ellipse(3, 4, 5, 2, 70)
    both = np.array([outline, shapely.reverse(outline)], dtype=object)
    for values in outline_measures(both):
        assert values[0] == pytest.approx(values[1])


def test_places_lie_in_their_outlines() -> None:
    sliver = shapely.Polygon([(0, 0), (100, 100), (100, 100.01)])
    outlines = np.array([ellipse(20, 20, 8, 4, 10), sliver], dtype=object)
    places, owner = sample_places(outlines)
    assert set(owner) == {0, 1}
    assert shapely.covers(outlines[owner], shapely.points(places)).all()
    assert 15 < (owner == 0).sum() < 36
    np.testing.assert_allclose(places[owner == 0].mean(axis=0), (20, 20), atol=0.5)


def test_nuclei_that_fit() -> None:
    fit = fit_of(grid(32), 28, 0.25, (1000, 2000), TISSUE)
    assert fit == Fit(7.0, 8.0, 1.0, 1.0)
    assert fit.faults() == []


def test_the_nearest_neighbour_is_measured() -> None:
    centers = np.random.default_rng(0).uniform((400, 200), (1600, 800), (500, 2))
    expected = np.median(KDTree(centers).query(centers, k=2)[0][:, 1]) * 0.5
    assert fit_of(centers, 14, 0.5, (1000, 2000), TISSUE).spacing_um == pytest.approx(expected)


@pytest.mark.parametrize(
    ("centers", "diameter", "fault"),
    [
        (grid(32, left=3000), 28, "0% of them lie on the image"),
        (grid(30, left=10, top=10), 28, "0% of them lie on tissue"),
        (grid(32), 7, r"median diameter is 1\.75 µm"),
        (grid(32), 112, r"median diameter is 28 µm"),
        (grid(8), 28, r"lie 2 µm apart"),
    ],
)
def test_nuclei_that_do_not_fit(centers: np.ndarray, diameter: float, fault: str) -> None:
    (found,) = fit_of(centers, diameter, 0.25, (1000, 2000), TISSUE).faults()
    assert np.char.find(found, fault.replace("\\", "")) >= 0


def test_centres_have_no_diameter_and_few_no_spacing() -> None:
    fit = fit_of(grid(1)[:5], float("nan"), 0.25, (1000, 2000), TISSUE)
    assert np.isnan(fit.diameter_um)
    assert np.isnan(fit.spacing_um)
    assert fit.faults() == []
