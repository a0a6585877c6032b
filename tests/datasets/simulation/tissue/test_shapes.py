"""Outlines of cells, against a power diagram by hand and the direction of the tissue."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from shapely import Polygon

from stdistill.datasets._simulation.biology.cell_types import draw_cell_types
from stdistill.datasets._simulation.biology.niches import GLAND, NEST, STROMA, WALL
from stdistill.datasets._simulation.tissue.anatomy import CLEARANCE_UNIT_UM, STEP_UM, Anatomy
from stdistill.datasets._simulation.tissue.cells import MAX_REACH_UM, N_ANGLES, Cells, spatial_bins
from stdistill.datasets._simulation.tissue.noise import sample_many
from stdistill.datasets._simulation.tissue.placement import COLUMNS, CORE, TYPE, ZONE, X, Y
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.tissue.shapes import _confine, shape_cells
from stdistill.datasets._simulation.writing.tables import vertices

THETA = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)


def confine(x: list[float], core: list[float], clearance: np.ndarray | None = None, y: float = 40.0) -> np.ndarray:
    """Cut outlines of 12 µm around places in one row."""
    at_x, at_y = np.array(x), np.full(len(x), y)
    outline = np.full((len(x), N_ANGLES), 12, np.float32)
    clearance = np.full((60, 60), 100, np.int8) if clearance is None else clearance
    _confine(outline, at_x, at_y, np.array(core), *spatial_bins(at_x, at_y), clearance)
    return outline


def polygons(cells: Cells) -> np.ndarray:
    return shapely.polygons(vertices(cells.x, cells.y, cells.outline).astype(float))


def test_outlines_are_bounded(section: Section) -> None:
    outline = section.cells.outline
    assert outline.shape == (len(section.cells), N_ANGLES)
    assert outline.min() > 0
    assert outline.max() <= MAX_REACH_UM


def test_cells_stop_at_holes(section: Section) -> None:
    cells = section.cells
    theta = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
    x = cells.x[:, None] + 0.9 * cells.outline * np.cos(theta)
    y = cells.y[:, None] + 0.9 * cells.outline * np.sin(theta)
    clearance = section.anatomy.clearance[(y / STEP_UM).astype(int), (x / STEP_UM).astype(int)]
    assert np.mean(clearance * CLEARANCE_UNIT_UM < -2.0) < 0.002


def test_types_keep_their_size_and_shape(section: Section) -> None:
    nuclei, cells, types = section.cells.nuclei, section.cells, section.cell_types
    area = 0.5 * np.sin(2 * np.pi / N_ANGLES) * (nuclei.outline * np.roll(nuclei.outline, -1, 1)).sum(axis=1)
    single = cells.n_nuclei[nuclei.cell] == 1
    for name in ("Fibroblast", "CD4 T cell", "Macrophage"):
        code = types.names.index(name)
        measured = np.median(area[single & (cells.cell_type[nuclei.cell] == code)])
        # Crowding cuts some of them.
        assert 0.6 < measured / types.look("nucleus_area")[code] < 1.2
    aspect = nuclei.outline.max(axis=1) / nuclei.outline.min(axis=1)
    long, round_ = (types.names.index(name) for name in ("Fibroblast", "CD4 T cell"))
    of_type = cells.cell_type[nuclei.cell]
    assert np.median(aspect[of_type == long]) > 1.5 * np.median(aspect[of_type == round_])


def test_two_nuclei_are_apart(section: Section) -> None:
    nuclei = section.cells.nuclei
    theta = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
    pairs = np.flatnonzero(np.diff(nuclei.cell) == 0)
    assert len(pairs)
    for first in pairs:
        x = nuclei.x[first : first + 2, None] + nuclei.outline[first : first + 2] * np.cos(theta)
        y = nuclei.y[first : first + 2, None] + nuclei.outline[first : first + 2] * np.sin(theta)
        a, b = (Polygon(np.c_[x[n], y[n]]) for n in (0, 1))
        assert not a.intersects(b)


def test_equal_neighbours_meet_half_way() -> None:
    outline = confine([30, 40], [3, 3])
    # 0.98 of the 5 µm to the border, straight ahead and along a line at 45°.
    assert outline[0, 0] == outline[1, N_ANGLES // 2] == pytest.approx(4.9)
    assert outline[0, 3] == pytest.approx(4.9 * np.sqrt(2), rel=1e-5)
    assert (outline[0, 6:19] == 12).all()


def test_the_larger_nucleus_gets_more() -> None:
    outline = confine([30, 40], [4, 2])
    # Equal power: (10 + (16 - 4) / 10) / 2 = 5.6 from the first, 4.4 from the second.
    assert outline[0, 0] == pytest.approx(0.98 * 5.6)
    assert outline[1, N_ANGLES // 2] == pytest.approx(0.98 * 4.4)


def test_the_nearest_of_several_neighbours_counts() -> None:
    outline = confine([30, 38, 50], [2, 2, 2])
    assert outline[0, 0] == pytest.approx(0.98 * 4)
    assert outline[1, 0] == pytest.approx(0.98 * 6)


def test_distant_cells_are_left_alone() -> None:
    assert (confine([20, 60], [3, 3]) == 12).all()


def test_an_outline_ends_where_a_hole_begins() -> None:
    clearance = np.full((60, 60), 100, np.int8)
    # Pixels of 2 µm: from x = 36 on there is a hole, the sign changes half a pixel before its centres.
    clearance[:, 18:] = -100
    outline = confine([30], [3], clearance)
    assert outline[0, 0] == pytest.approx(6, abs=0.5)
    assert outline[0, 4] == pytest.approx(12, abs=0.5)
    assert (outline[0, 6:19] == 12).all()


def test_cells_are_valid_and_disjoint(section: Section) -> None:
    shapes = polygons(section.cells)
    assert shapely.is_valid(shapes).all()
    first, second = shapely.STRtree(shapes).query(shapes, predicate="overlaps")
    assert shapely.area(shapely.intersection(shapes[first], shapes[second])).sum() < 1e-3


def test_nuclei_lie_within_their_cell(section: Section) -> None:
    cells, nuclei = section.cells, section.cells.nuclei
    nucleus = shapely.polygons(vertices(nuclei.x, nuclei.y, nuclei.outline).astype(float))
    assert shapely.contains(polygons(cells)[nuclei.cell], nucleus).all()


def test_numbers_of_nuclei(section: Section) -> None:
    share = np.bincount(section.cells.n_nuclei, minlength=3) / len(section.cells)
    assert share[0] == pytest.approx(0.03, abs=0.015)
    assert 0.005 < share[2] < 0.04
    np.testing.assert_array_equal(
        section.cells.nuclei.cell, np.repeat(np.arange(len(section.cells)), section.cells.n_nuclei)
    )


def test_a_single_nucleus_shares_the_centre_of_its_cell(section: Section) -> None:
    cells, nuclei = section.cells, section.cells.nuclei
    single = cells.n_nuclei[nuclei.cell] == 1
    np.testing.assert_array_equal(nuclei.x[single], cells.x[nuclei.cell[single]])
    assert (nuclei.outline[single] <= 0.9201 * cells.outline[nuclei.cell[single]]).all()


def alone(section: Section, zone: int, name: str, anatomy: Anatomy | None = None) -> Cells:
    """Cells of one type, alone on a grid of 40 µm."""
    tissue, types = section.tissue, draw_cell_types(np.random.default_rng(0), 16)
    x, y = (a.ravel() for a in np.meshgrid(np.arange(60, 800, 40.0), np.arange(60, 800, 40.0)))
    placed = np.zeros((len(x), len(COLUMNS)))
    placed[:, X], placed[:, Y], placed[:, CORE], placed[:, ZONE] = x, y, 3.0, zone
    placed[:, TYPE] = types.names.index(name)
    if anatomy is None:
        shape = section.anatomy.clearance.shape
        anatomy = Anatomy(np.full(shape, zone, np.uint8), np.full(shape, 120, np.int8))
    return shape_cells(np.random.default_rng(0), placed, tissue, anatomy, types, True)


def long_axes(cells: Cells) -> np.ndarray:
    """Long axes of the nuclei, as doubled angles on the unit circle."""
    moment = (cells.nuclei.outline**2 * np.exp(2j * THETA)).sum(axis=1)
    return moment / np.abs(moment)


def test_fibroblasts_lie_along_the_fibres(section: Section) -> None:
    cells, tissue = alone(section, STROMA, "Fibroblast"), section.tissue
    fibre = tissue.fibre_angle[(cells.y / tissue.step_um).astype(int), (cells.x / tissue.step_um).astype(int)]
    agreement = (long_axes(cells) * np.exp(-2j * fibre)).real
    assert agreement.mean() > 0.85


def test_tumour_cells_point_anywhere(section: Section) -> None:
    cells = alone(section, NEST, "Tumor A")
    assert abs(long_axes(cells).mean()) < 0.15


@pytest.mark.parametrize(("zone", "name", "sign"), [(GLAND, "Fibroblast", 1), (WALL, "Endothelial", -1)])
def test_glands_stand_on_their_lumen_and_vessels_are_wrapped(section: Section, zone: int, name: str, sign: int) -> None:
    """With a hole to the left everywhere, upright is along x."""
    shape = section.anatomy.clearance.shape
    distance = np.tile((np.arange(shape[1]) * STEP_UM) % 40 + 2, (shape[0], 1))
    anatomy = Anatomy(np.full(shape, zone, np.uint8), (distance / CLEARANCE_UNIT_UM).clip(-127, 127).astype(np.int8))
    cells = alone(section, zone, name, anatomy)
    level = sample_many(anatomy.clearance, cells.x / STEP_UM, cells.y / STEP_UM) * CLEARANCE_UNIT_UM
    assert level == pytest.approx(20, abs=3)
    assert sign * long_axes(cells).real.mean() > 0.8


def test_one_nucleus_each_and_no_longer_than_allowed(section: Section) -> None:
    cells = alone(section, NEST, "Smooth muscle")
    assert (cells.n_nuclei == 1).all()
    assert cells.outline.max() <= MAX_REACH_UM
    area = 0.5 * np.sin(2 * np.pi / N_ANGLES) * (cells.nuclei.outline * np.roll(cells.nuclei.outline, -1, 1)).sum(1)
    # The ellipse has the area of its core, π·3².
    assert np.median(area) == pytest.approx(9 * np.pi, rel=0.1)
