from __future__ import annotations

import numpy as np
import pytest

from stdistill._graph.spacing import check_room, median_spacing


def grid(n: int, step: float) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2) * step


def test_square_and_hexagonal_grids() -> None:
    square = grid(10, 200.0)
    assert median_spacing(square, np.zeros(100, dtype=int)) == 200
    hexagonal = grid(10, 100.0)
    hexagonal[:, 1] *= np.sqrt(3) / 2
    hexagonal[(np.arange(100) // 10) % 2 == 1, 0] += 50
    assert median_spacing(hexagonal, np.zeros(100, dtype=int)) == pytest.approx(100)


def test_slides_do_not_see_each_other() -> None:
    centers = np.concatenate([grid(10, 100.0), grid(10, 100.0) + 1])
    libraries = np.repeat([0, 1], 100)
    assert median_spacing(centers, libraries) == 100
    assert median_spacing(centers, 0 * libraries) == pytest.approx(np.sqrt(2))


def test_points_at_one_place_count_once() -> None:
    centers = np.repeat(grid(5, 10.0), 4, axis=0)
    assert median_spacing(centers, np.zeros(100, dtype=int)) == 10


def test_one_stray_point_and_a_slide_of_one_place_change_nothing() -> None:
    centers = np.concatenate([grid(5, 10.0), [[1e6, 1e6]], [[3.0, 3.0]]])
    assert median_spacing(centers, np.r_[np.zeros(26, dtype=int), 1]) == 10


def test_no_spacing() -> None:
    with pytest.raises(ValueError, match="no two places on one slide among the 3 centres"):
        median_spacing(np.ones((3, 2)), np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="no two places on one slide among the 2 centres"):
        median_spacing(np.array([[0.0, 0], [1, 1]]), np.array([0, 1]))


def test_centres_in_mm_have_no_room() -> None:
    """Cells 10 µm apart, and bins of Visium HD, 2 µm apart; on a line, and of few centres, nothing is known."""
    check_room(grid(30, 10.0))
    check_room(grid(30, 2.0))
    check_room(grid(30, 0.01) * [1, 0])
    check_room(grid(5, 0.01))
    with pytest.raises(
        ValueError, match=r"900 centres lie within 0\.29 × 0\.29 µm, 9\.3e-05 µm² for each: .* such as mm"
    ):
        check_room(grid(30, 0.01))
