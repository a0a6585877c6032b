"""Affine maps of the plane, as 3 × 3 matrices that act on columns (x, y, 1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Floats

MAX_DISTORTION = 0.05
"""Largest accepted ratio of the two scales of a map, less one. Above it a square crop is no square of tissue."""


def apply_affine(matrix: Floats, points: Floats) -> Floats:
    """Map points (n, 2)."""
    mapped: Floats = points @ matrix[:2, :2].T + matrix[:2, 2]
    return mapped


def inside(points: Floats, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Tell which points (x, y) lie on an image of this height and width."""
    flags: npt.NDArray[np.bool_] = np.all((points >= 0) & (points < (shape[1], shape[0])), axis=1)
    return flags


def affine_scale(matrix: Floats) -> float:
    """Length of a unit vector after the map, averaged over directions: √|det|."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))


def distortion(matrix: Floats) -> float:
    """Ratio of the largest to the smallest scale of the map, less one; 0 for a similarity."""
    large, small = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    return float(large / small - 1)


def is_mirrored(matrix: Floats) -> bool:
    """Whether the map turns left into right."""
    return bool(np.linalg.det(matrix[:2, :2]) < 0)


def check_affine(matrix: Floats, what: str) -> None:
    """Raise a `ValueError` unless `matrix` can be inverted and keeps squares (nearly) square."""
    if matrix.shape != (3, 3):
        msg = f"{what} must be a 3 × 3 matrix, found shape {matrix.shape}."
        raise ValueError(msg)
    if not np.isfinite(matrix).all():
        msg = f"{what} contains NaN or infinite numbers:\n{matrix}"
        raise ValueError(msg)
    if not np.allclose(matrix[2], (0, 0, 1)):
        msg = f"{what} must have 0, 0, 1 as its last row, found {matrix[2].tolist()}; is it transposed?"
        raise ValueError(msg)
    linear = matrix[:2, :2]
    # Relative to the size of the entries: a matrix in metres per pixel has a tiny determinant, too.
    if abs(np.linalg.det(linear)) <= 1e-9 * np.abs(linear).max() ** 2:
        msg = f"{what} is singular (it maps the plane onto a line) and cannot be inverted:\n{matrix}"
        raise ValueError(msg)
    if distortion(matrix) > MAX_DISTORTION:
        x_scale, y_scale = np.linalg.norm(linear, axis=0)
        angle = np.degrees(np.arccos(np.clip(linear[:, 0] @ linear[:, 1] / (x_scale * y_scale), -1, 1)))
        msg = (
            f"{what} is {'sheared' if abs(angle - 90) > 1 else 'anisotropic'}: its axes are scaled by "
            f"{x_scale:.4f} and {y_scale:.4f} and stand at {angle:.1f}° (expected: equal scales, 90°). "
            f"A crop would show distorted tissue. Align the image again with a rotation, a shift and one scale; "
            f"up to {MAX_DISTORTION:.0%} of distortion is accepted."
        )
        raise ValueError(msg)


def fit_affine(source: Floats, target: Floats) -> Floats:
    """Find the simplest map of `source` onto `target`: identity, one scale and a shift, or any affine.

    A simpler map is taken when it leaves (nearly) the same residual, so that noise in the points is not
    mistaken for a rotation. Points that do not determine an affine map (fewer than three, or on a line) get
    one scale and a shift.
    """
    candidates = [np.eye(3), _fit_scale(source, target)]
    centered = source - source.mean(axis=0)
    if np.linalg.matrix_rank(centered, tol=1e-6 * max(1.0, float(np.abs(centered).max()))) == 2:
        solution = np.linalg.lstsq(np.c_[source, np.ones(len(source))], target, rcond=None)[0]
        candidates.append(np.vstack([solution.T, (0, 0, 1)]))
    residuals = [_rms(apply_affine(matrix, source) - target) for matrix in candidates]
    accepted = 1.1 * min(residuals) + 1e-9 * float(np.abs(target).max())
    return next(matrix for matrix, left in zip(candidates, residuals, strict=True) if left <= accepted)


def _fit_scale(source: Floats, target: Floats) -> Floats:
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    spread = float((a * a).sum())
    scale = float((a * b).sum()) / spread if spread > 0 else 1.0
    matrix = np.diag([scale, scale, 1.0])
    matrix[:2, 2] = target.mean(axis=0) - scale * source.mean(axis=0)
    return matrix


def _rms(difference: Floats) -> float:
    return float(np.sqrt((difference**2).sum(axis=1).mean()))
