from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdistill._slide.affine import affine_scale, apply_affine, check_affine, distortion, fit_affine, is_mirrored

QUARTER_TURN = np.array([[0, 2.0, 5], [-2.0, 0, 7], [0, 0, 1]])


def test_apply_affine_by_hand() -> None:
    np.testing.assert_allclose(apply_affine(QUARTER_TURN, np.array([[1.0, 3.0]])), [[11.0, 5.0]])


def test_scale_and_mirror() -> None:
    assert affine_scale(QUARTER_TURN) == pytest.approx(2)
    assert not is_mirrored(QUARTER_TURN)
    assert is_mirrored(np.diag([-1.0, 1, 1]))
    assert distortion(QUARTER_TURN) == pytest.approx(0)
    assert distortion(np.diag([1.0, 1.5, 1])) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(2), r"3 × 3 matrix, found shape \(2, 2\)"),
        (np.diag([np.nan, 1, 1]), "NaN or infinite"),
        (np.array([[1.0, 0, 0], [0, 1, 0], [5, 5, 1]]), "transposed"),
        (np.array([[1.0, 2, 0], [2, 4, 0], [0, 0, 1]]), "singular"),
        (np.zeros((3, 3)) + np.diag([0, 0, 1]), "singular"),
        (np.diag([1.0, 1.2, 1]), r"anisotropic: .*1\.0000 and 1\.2000"),
        (np.array([[1.0, 0.3, 0], [0, 1, 0], [0, 0, 1]]), r"sheared: .*73\.3°"),
    ],
)
def test_check_affine_says_what_is_wrong(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_affine(matrix, "The map")


@given(angle=st.floats(0, 2 * np.pi), scale=st.floats(1e-3, 1e3), mirror=st.booleans())
def test_check_affine_accepts_every_similarity(angle: float, scale: float, mirror: bool) -> None:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    check_affine(np.array([[c, -s, 1e5], [s, c, -1e5], [0, 0, 1]]) @ np.diag([-1.0 if mirror else 1.0, 1, 1]), "It")


def test_fit_affine_prefers_the_simplest_map() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1000, (500, 2))
    noise = rng.normal(0, 0.3, points.shape)
    np.testing.assert_array_equal(fit_affine(points, points + noise), np.eye(3))
    np.testing.assert_allclose(fit_affine(points, points / 0.2125), np.diag([1 / 0.2125, 1 / 0.2125, 1]), atol=1e-9)
    np.testing.assert_allclose(fit_affine(points, apply_affine(QUARTER_TURN, points)), QUARTER_TURN, atol=1e-9)


def test_fit_affine_of_too_few_points() -> None:
    one = np.array([[3.0, 4.0]])
    np.testing.assert_allclose(apply_affine(fit_affine(one, one + 2), one), one + 2)
    line = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    np.testing.assert_allclose(fit_affine(line, 4 * line + 1), [[4, 0, 1], [0, 4, 1], [0, 0, 1]], atol=1e-12)
