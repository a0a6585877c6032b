"""Tiles of the H&E: independent of the tiling, and true to the cells."""

from __future__ import annotations

import numpy as np
import pytest

from stdistill.datasets._simulation.painting.he import HePainter
from stdistill.datasets._simulation.painting.scanner import Scanner, usual_scanner
from stdistill.datasets._simulation.painting.stain import Stain, draw_stain
from stdistill.datasets._simulation.painting.unevenness import Unevenness, draw_unevenness
from stdistill.datasets._simulation.tissue.section import Section

MPP = 0.4
STAIN = draw_stain(np.random.default_rng(1))
SCANNER = usual_scanner(np.random.default_rng(1))


def painter_of(
    section: Section, mpp: float = MPP, seed: int = 0, stain: Stain = STAIN, scanner: Scanner = SCANNER
) -> HePainter:
    frame = np.array([[mpp, 0, 0], [0, mpp, 0.0]])
    uneven = draw_unevenness(np.random.default_rng(2), section)
    return HePainter(np.random.default_rng(seed), section, stain, uneven, scanner, frame)


@pytest.fixture(scope="module")
def painter(section: Section) -> HePainter:
    return painter_of(section)


@pytest.fixture(scope="module")
def corner(section: Section) -> tuple[int, int]:
    """Top left pixel of a field in the middle of the tissue."""
    cells = section.cells
    return int(np.median(cells.x) / MPP) - 150, int(np.median(cells.y) / MPP) - 150


@pytest.fixture(scope="module")
def field(painter: HePainter, corner: tuple[int, int]) -> np.ndarray:
    return painter.paint(*corner, 300, 300)


def test_four_tiles_are_the_large_one(painter: HePainter, corner: tuple[int, int], field: np.ndarray) -> None:
    x, y = corner
    rows = [
        np.hstack([painter.paint(x, top, 117, h), painter.paint(x + 117, top, 183, h)])
        for top, h in ((y, 202), (y + 202, 98))
    ]
    difference = np.abs(np.vstack(rows).astype(int) - field)
    assert difference.max() <= 1
    assert np.mean(difference) < 0.01


def test_a_tile_can_be_painted_twice(painter: HePainter, corner: tuple[int, int], field: np.ndarray) -> None:
    painter.paint(0, 0, 50, 50)
    np.testing.assert_array_equal(painter.paint(*corner, 300, 300), field)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 300), (300, 2)])
def test_tiles_of_any_size(
    painter: HePainter, corner: tuple[int, int], field: np.ndarray, width: int, height: int
) -> None:
    tile = painter.paint(*corner, width, height)
    assert tile.shape == (height, width, 3)
    assert np.abs(tile.astype(int) - field[:height, :width]).max() <= 1


def test_painters_of_one_seed_agree_and_of_two_do_not(
    section: Section, corner: tuple[int, int], field: np.ndarray
) -> None:
    np.testing.assert_array_equal(painter_of(section).paint(*corner, 300, 300), field)
    other = painter_of(section, seed=5).paint(*corner, 300, 300)
    assert (other != field).mean() > 0.5
    # The nuclei are where they were.
    assert np.corrcoef(other[..., 0].ravel(), field[..., 0].ravel())[0, 1] > 0.6


def test_a_coarser_scan_shows_the_same_field(section: Section, corner: tuple[int, int], field: np.ndarray) -> None:
    x, y = (c // 2 * 2 for c in corner)
    coarse = painter_of(section, 2 * MPP).paint(x // 2, y // 2, 140, 140).astype(float)
    start = y - corner[1] + 2, x - corner[0] + 2
    fine = field[start[0] : start[0] + 276, start[1] : start[1] + 276].astype(float)
    halved = fine.reshape(138, 2, 138, 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(halved.ravel(), coarse[1:139, 1:139].ravel())[0, 1] > 0.85
    assert np.abs(halved.mean(axis=(0, 1)) - coarse.mean(axis=(0, 1))).max() < 6


def test_a_stronger_stain_is_darker(section: Section, corner: tuple[int, int], field: np.ndarray) -> None:
    strong = Stain(1.3 * STAIN.optical_density)
    darker = painter_of(section, stain=strong).paint(*corner, 300, 300)
    # In tissue the density of every channel grows by 1.3, after Beer and Lambert.
    tissue = field.mean(axis=2) < 200
    density, stronger = (-np.log(image[tissue] / SCANNER.white).mean() for image in (field, darker))
    assert stronger / density == pytest.approx(1.3, abs=0.03)


def red_at(painter: HePainter, x: float, y: float) -> float:
    """Red light, which haematoxylin stops, at a place in µm."""
    return float(painter.paint(int(x / MPP) - 1, int(y / MPP) - 1, 3, 3)[..., 0].mean())


def test_a_cell_without_a_nucleus_is_pale_in_its_middle(section: Section, painter: HePainter) -> None:
    cells = section.cells
    red = np.array([red_at(painter, x, y) for x, y in zip(cells.x[::4], cells.y[::4], strict=True)])
    count = cells.n_nuclei[::4]
    empty = np.flatnonzero(cells.n_nuclei == 0)
    pale = np.median([red_at(painter, cells.x[c], cells.y[c]) for c in empty])
    assert pale > np.median(red[count == 1]) + 40


def test_two_nuclei_are_two_dark_spots(section: Section, painter: HePainter) -> None:
    nuclei = section.cells.nuclei
    first = np.flatnonzero(np.diff(nuclei.cell) == 0)
    spots = [red_at(painter, nuclei.x[n], nuclei.y[n]) for n in np.r_[first, first + 1]]
    between = [
        red_at(painter, nuclei.x[n : n + 2].mean(), nuclei.y[n : n + 2].mean())
        for n in first
        if np.hypot(np.diff(nuclei.x[n : n + 2]), np.diff(nuclei.y[n : n + 2]))[0] > 5
    ]
    assert np.median(spots) + 10 < np.median(between)


def test_darker_types_are_darker(section: Section, painter: HePainter) -> None:
    """The haematoxylin of a look is seen in the nuclei of its types."""
    cells, types = section.cells, section.cell_types
    red = {}
    for name in ("CD4 T cell", "Smooth muscle", "Macrophage"):
        of_type = np.flatnonzero((cells.cell_type == types.names.index(name)) & (cells.n_nuclei == 1))[:80]
        red[name] = np.median([red_at(painter, cells.x[c], cells.y[c]) for c in of_type])
    assert red["CD4 T cell"] < min(red["Smooth muscle"], red["Macrophage"]) - 10


def test_two_by_two_tiles_fit_together(section: Section) -> None:
    painter = painter_of(section, 0.274)
    x, y = int(section.cells.x[700] / 0.274), int(section.cells.y[700] / 0.274)
    whole = painter.paint(x, y, 210, 160)
    assert whole.min() < 100
    left = np.vstack([painter.paint(x, y, 97, 50), painter.paint(x, y + 50, 97, 110)])
    parts = np.hstack([left, painter.paint(x + 97, y, 113, 160)])
    # Sums of floats in another order may round to the next grey value.
    assert np.abs(parts.astype(int) - whole).max() <= 1


def test_off_the_slide_is_white(section: Section) -> None:
    tile = painter_of(section, 0.274).paint(-500, -500, 60, 60).astype(float)
    assert tile.mean() > 225
    assert 0.3 < tile.std(axis=(0, 1)).mean() < 4


def test_frame_does_not_move_the_tissue(section: Section) -> None:
    """The same place looks alike in a frame turned by a quarter."""
    cell = 700
    um = np.array([section.cells.x[cell], section.cells.y[cell]])
    straight = painter_of(section, 0.274)
    column, row = (um / 0.274).astype(int)
    first = straight.paint(column - 60, row - 60, 121, 121)
    turned_frame = 0.274 * np.array([[0.0, -1, 0], [1, 0, 0]])
    uneven = draw_unevenness(np.random.default_rng(2), section)
    turned = HePainter(np.random.default_rng(0), section, STAIN, uneven, SCANNER, turned_frame)
    # x of the slide is -y of the frame, y of the slide is its x.
    second = turned.paint(row - 60, -column - 61, 121, 121)
    back = np.rot90(second, -1)
    assert np.corrcoef(first.ravel(), back.ravel())[0, 1] > 0.97


def test_types_that_share_a_look_are_painted_alike(section: Section) -> None:
    """Nuclei of two lymphocyte types have one colour, those of fibroblasts another, where the section is even."""
    even = Unevenness(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), 1e6)
    frame = 0.274 * np.eye(2, 3)
    painter = HePainter(np.random.default_rng(0), section, STAIN, even, SCANNER, frame)
    cells, types = section.cells, section.cell_types
    nuclei = cells.nuclei

    def colours(name: str) -> np.ndarray:
        of_type = np.flatnonzero(cells.cell_type[nuclei.cell] == types.names.index(name))[:120]
        return np.array(
            [painter.paint(int(nuclei.x[n] / 0.274) - 1, int(nuclei.y[n] / 0.274) - 1, 3, 3).mean() for n in of_type]
        )

    t_cell, b_cell, fibroblast = (colours(name) for name in ("CD4 T cell", "B cell", "Fibroblast"))
    assert abs(np.median(t_cell) - np.median(b_cell)) < 8
    assert abs(np.median(t_cell) - np.median(fibroblast)) > 15
