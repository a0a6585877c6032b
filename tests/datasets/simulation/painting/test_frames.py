"""The H&E's frame against affine maps worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stdistill.datasets._simulation.painting.frames import PIXEL_SIZE_UM, Alignment, draw_alignment
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.writing.tables import vertices

WIDTH_UM, HEIGHT_UM = 1000.0, 500.0


def turn_of(frame: Alignment) -> float:
    """The turn in radians, from where a step to the right in the H&E leads."""
    return float(np.arctan2(frame.matrix[1, 0], frame.matrix[0, 0]))


@pytest.fixture(scope="module")
def frames() -> list[Alignment]:
    return [draw_alignment(np.random.default_rng(seed), WIDTH_UM, HEIGHT_UM, 0.274) for seed in range(60)]


FRAME = Alignment((50, 60), np.array([[0.0, -2, 100], [2, 0, 10], [0, 0, 1]]))
"""A quarter turn, twice as coarse as the morphology image, shifted by (100, 10)."""


def test_pixel_to_um() -> None:
    # (5, 7) lies at (100 - 2·7, 10 + 2·5) = (86, 20) in the morphology image, of 0.2125 µm a pixel.
    np.testing.assert_allclose(FRAME.to_um @ [5, 7, 1], [18.275, 4.25])


def test_um_to_pixel() -> None:
    um = np.array([[18.275, 4.25], [21.25, 2.125]])
    np.testing.assert_allclose(FRAME.from_um(um), [[5, 7], [0, 0]], atol=1e-12)


def test_no_points_stay_no_points() -> None:
    assert FRAME.from_um(np.empty((0, 2))).shape == (0, 2)


def test_turned_by_a_quarter_to_either_side_but_never_exactly(frames: list[Alignment]) -> None:
    degrees = np.degrees([turn_of(frame) for frame in frames])
    off = np.abs(degrees) - 90
    assert np.abs(off).max() <= 3
    assert off.min() < -1.5
    assert off.max() > 1.5
    assert np.abs(off).min() > 1e-3
    assert 0.25 < np.mean(degrees > 0) < 0.75


@pytest.mark.parametrize("he_mpp", [0.1, 0.2125, 0.274, 0.5, 2.0])
def test_alignment_is_a_similarity_of_the_asked_scale(he_mpp: float) -> None:
    linear = draw_alignment(np.random.default_rng(1), WIDTH_UM, HEIGHT_UM, he_mpp).matrix[:2, :2]
    scale = he_mpp / 0.2125
    np.testing.assert_allclose(linear.T @ linear, scale**2 * np.eye(2), atol=1e-12)
    assert np.linalg.det(linear) == pytest.approx(scale**2)


def test_lengths_are_kept_in_um(frames: list[Alignment]) -> None:
    um = np.array([[10.0, 20.0], [310.0, 420.0]])
    for frame in frames[:10]:
        first, second = frame.from_um(um)
        assert np.hypot(*(second - first)) * 0.274 == pytest.approx(500)


def test_image_is_as_large_as_the_turned_slide(frames: list[Alignment]) -> None:
    for frame in frames:
        sine, cosine = abs(np.sin(turn_of(frame))), abs(np.cos(turn_of(frame)))
        rows, columns = frame.shape
        assert columns == np.ceil((WIDTH_UM * cosine + HEIGHT_UM * sine) / 0.274)
        assert rows == np.ceil((WIDTH_UM * sine + HEIGHT_UM * cosine) / 0.274)


def test_to_um_is_the_matrix_in_um(frames: list[Alignment]) -> None:
    points = np.array([[0.0, 0], [30, 700], [511.5, 2]])
    for frame in frames[:10]:
        morphology = (np.c_[points, np.ones(3)] @ frame.matrix.T)[:, :2]
        np.testing.assert_allclose(frame.from_um(morphology * PIXEL_SIZE_UM), points, atol=1e-9)


def test_the_whole_of_every_cell_lies_on_the_image(section: Section) -> None:
    cells, tissue = section.cells, section.tissue
    outlines = vertices(cells.x, cells.y, cells.outline).reshape(-1, 2).astype(float)
    for seed in range(6):
        frame = draw_alignment(np.random.default_rng(seed), tissue.width_um, tissue.height_um, 0.5)
        pixels = frame.from_um(outlines)
        assert pixels.min() > 0
        assert (pixels < [frame.shape[1], frame.shape[0]]).all()


@pytest.mark.parametrize("seed", range(5))
def test_to_um_and_back(seed: int) -> None:
    frame = draw_alignment(np.random.default_rng(seed), 900, 600, 0.3)
    pixels = np.random.default_rng(seed).uniform(0, 500, (20, 2))
    um = pixels @ frame.to_um[:, :2].T + frame.to_um[:, 2]
    np.testing.assert_allclose(frame.from_um(um), pixels)


@pytest.mark.parametrize("seed", range(5))
def test_the_slide_fits_closely(seed: int) -> None:
    frame = draw_alignment(np.random.default_rng(seed), 900, 600, 0.3)
    corners = frame.from_um(np.array([[0, 0], [900, 0], [0, 600], [900, 600.0]]))
    rows, columns = frame.shape
    np.testing.assert_allclose(corners.min(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(corners.max(axis=0), [columns, rows], atol=1)
