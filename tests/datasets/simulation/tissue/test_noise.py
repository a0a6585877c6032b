from __future__ import annotations

import numpy as np
import pytest

from stdistill.datasets._simulation.tissue.noise import (
    TEXTURE_SIZE,
    periodic_texture,
    random_field,
    sample_many,
    sample_raster,
    sample_texture,
    smoothstep,
)


def crossings(field: np.ndarray) -> float:
    """How often a row crosses zero, per pixel."""
    return float(np.mean(np.diff(np.sign(field), axis=1) != 0))


def test_field_has_zero_mean_and_unit_variance() -> None:
    field = random_field(np.random.default_rng(0), (150, 211), 20)
    assert field.shape == (150, 211)
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=1e-5)


def test_longer_waves_cross_zero_less_often() -> None:
    short, long = (random_field(np.random.default_rng(1), (300, 300), w) for w in (10, 40))
    assert 2.5 < crossings(short) / crossings(long) < 6


def test_roughness_adds_detail_and_keeps_the_form() -> None:
    smooth, rough = (random_field(np.random.default_rng(2), (300, 300), 60, roughness=r) for r in (0.0, 0.2))
    assert np.corrcoef(smooth.ravel(), rough.ravel())[0, 1] > 0.8
    assert np.abs(np.diff(rough, axis=0)).mean() > np.abs(np.diff(smooth, axis=0)).mean()


def test_opposite_edges_are_no_copies() -> None:
    fields = [random_field(np.random.default_rng(seed), (60, 200), 40) for seed in range(30)]
    ends = np.concatenate([np.c_[f[:, 0], f[:, -1]] for f in fields])
    assert abs(np.corrcoef(ends.T)[0, 1]) < 0.4


def test_field_is_reproducible() -> None:
    first, second = (random_field(np.random.default_rng(3), (40, 40), 8) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_texture_tiles_without_a_seam() -> None:
    texture = periodic_texture(np.random.default_rng(0), 4, 14)
    inner = np.abs(np.diff(texture, axis=1)).mean()
    seam = np.abs(texture[:, 0] - texture[:, -1]).mean()
    assert seam == pytest.approx(inner, rel=0.15)


def test_texture_is_met_at_the_pixels_and_halved_between_them() -> None:
    texture = periodic_texture(np.random.default_rng(1), 4, 14)
    assert sample_texture(texture, 7.0, 9.0) == pytest.approx(texture[9, 7])
    assert sample_texture(texture, 7.5, 9.0) == pytest.approx(texture[9, 7:9].mean(), abs=1e-6)
    assert sample_texture(texture, 7.0, 9.5) == pytest.approx(texture[9:11, 7].mean(), abs=1e-6)


@pytest.mark.parametrize("shift", [-TEXTURE_SIZE, TEXTURE_SIZE, 5 * TEXTURE_SIZE])
def test_texture_repeats(shift: int) -> None:
    texture = periodic_texture(np.random.default_rng(2), 4, 14)
    assert sample_texture(texture, 3.25 + shift, 1023.5) == pytest.approx(
        sample_texture(texture, 3.25, 1023.5 - shift), abs=1e-6
    )


def test_raster_pixels_have_their_value_at_their_centre() -> None:
    raster = np.arange(12, dtype=np.float32).reshape(3, 4)
    for row in range(3):
        for column in range(4):
            assert sample_raster(raster, column + 0.5, row + 0.5) == pytest.approx(raster[row, column], abs=0.02)


def test_raster_is_linear_between_centres_and_flat_beyond_the_edge() -> None:
    raster = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert sample_raster(raster, 1.0, 0.5) == pytest.approx(0.5)
    assert sample_raster(raster, -50, -50) == 0
    assert sample_raster(raster, 50, 50) == pytest.approx(11, abs=0.02)


def test_raster_of_signed_bytes_does_not_overflow() -> None:
    raster = np.full((3, 3), 120, np.int8)
    raster[:, 1:] = -120
    assert sample_raster(raster, 1.0, 1.5) == pytest.approx(0, abs=1e-4)


def test_many_samples_are_one_at_a_time() -> None:
    rng = np.random.default_rng(3)
    raster, x, y = rng.random((20, 30)), rng.uniform(-2, 32, 50), rng.uniform(-2, 22, 50)
    single = [sample_raster(raster, a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(sample_many(raster, x, y), single)


@pytest.mark.parametrize(("x", "expected"), [(-3, 0), (0, 0), (0.5, 0.5), (1, 1), (9, 1)])
def test_smoothstep(x: float, expected: float) -> None:
    assert smoothstep(float(x)) == expected
