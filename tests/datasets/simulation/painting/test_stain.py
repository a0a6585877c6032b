"""Light through stains, against the law of Beer and Lambert by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stdistill.datasets._simulation.painting.stain import HALO, E, H, R, Stain, develop, draw_stain
from stdistill.datasets._simulation.tissue.noise import TEXTURE_SIZE

DENSITY = np.array([[1.0, 0.8, 0.4], [0.2, 1.0, 0.5], [0.1, 0.9, 0.8]], np.float32)
WHITE = np.array([240, 250, 200], np.float32)
NEUTRAL = np.array([243, 241, 244], np.float32)
SILENT = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE), np.float32)


def develop_of(
    stains: np.ndarray, sensor: np.ndarray = SILENT, origin: tuple[int, int] = (0, 0), white: np.ndarray = WHITE
) -> np.ndarray:
    pixels = np.empty((stains.shape[0] - 2 * HALO, stains.shape[1] - 2 * HALO, 3), np.uint8)
    develop(pixels, stains.astype(np.float32), origin, DENSITY, white, sensor)
    return pixels


def even(height: int, width: int, amounts: tuple[float, float, float]) -> np.ndarray:
    return np.broadcast_to(amounts, (height + 2 * HALO, width + 2 * HALO, 3))


@pytest.fixture(scope="module")
def stains() -> list[Stain]:
    return [draw_stain(np.random.default_rng(seed)) for seed in range(40)]


def test_three_stains_by_hand() -> None:
    # Red: 0.5·1.0 + 0.25·0.2 + 0.1·0.1 = 0.56, green 0.40 + 0.25 + 0.09 = 0.74, blue 0.2 + 0.125 + 0.08 = 0.405.
    # 240·e^-0.56 = 137.1, 250·e^-0.74 = 119.3, 200·e^-0.405 = 133.4.
    pixels = develop_of(even(3, 4, (0.5, 0.25, 0.1)))
    assert pixels.shape == (3, 4, 3)
    np.testing.assert_array_equal(pixels, np.broadcast_to([137, 119, 133], (3, 4, 3)))


def test_a_place_without_stain_is_white() -> None:
    np.testing.assert_array_equal(develop_of(even(2, 2, (0, 0, 0))), np.broadcast_to([240, 250, 200], (2, 2, 3)))


@pytest.mark.parametrize(("row", "column", "share"), [(4, 4, 0.36), (4, 5, 0.11), (3, 4, 0.11), (5, 3, 0.05)])
def test_a_point_is_blurred_to_its_neighbours(row: int, column: int, share: float) -> None:
    stains = np.zeros((9 + 2 * HALO, 9 + 2 * HALO, 3))
    stains[4 + HALO, 4 + HALO, H] = 2
    red = develop_of(stains)[row, column, 0]
    assert red == pytest.approx(240 * np.exp(-2 * share), abs=0.51)


def test_a_point_is_not_seen_two_pixels_away() -> None:
    stains = np.zeros((9 + 2 * HALO, 9 + 2 * HALO, 3))
    stains[4 + HALO, 4 + HALO, E] = 5
    changed = (develop_of(stains) != WHITE.astype(np.uint8)).any(axis=2)
    assert np.argwhere(changed).tolist() == [[i, j] for i in (3, 4, 5) for j in (3, 4, 5)]


@pytest.mark.parametrize(("amount", "noise", "expected"), [(50.0, -3.0, 0), (0.0, 9.0, 255), (0.0, 0.0, 252)])
def test_light_saturates_instead_of_wrapping_round(amount: float, noise: float, expected: int) -> None:
    sensor = np.full_like(SILENT, noise)
    pixels = develop_of(even(2, 2, (amount,) * 3), sensor, white=np.full(3, 252, np.float32))
    assert (pixels == expected).all()


def test_noise_stays_with_the_place_not_with_the_tile() -> None:
    sensor = np.random.default_rng(0).standard_normal(SILENT.shape).astype(np.float32)
    whole = develop_of(even(40, 60, (0.3, 0.3, 0)), sensor, (1000, 2030))
    part = develop_of(even(10, 20, (0.3, 0.3, 0)), sensor, (1025, 2041))
    np.testing.assert_array_equal(part, whole[11:21, 25:45])
    # 1.3 grey values, and a little from rounding.
    assert whole.std(axis=(0, 1)).mean() == pytest.approx(np.hypot(1.3, 12**-0.5), rel=0.1)


def test_noise_of_the_channels_is_independent() -> None:
    sensor = np.random.default_rng(1).standard_normal(SILENT.shape).astype(np.float32)
    pixels = develop_of(even(80, 80, (0.5, 0.5, 0)), sensor).reshape(-1, 3)
    assert np.abs(np.corrcoef(pixels.T) - np.eye(3)).max() < 0.06


def test_each_stain_is_known_by_its_colour(stains: list[Stain]) -> None:
    for stain in stains:
        od = stain.optical_density / np.linalg.norm(stain.optical_density, axis=1, keepdims=True)
        # Haematoxylin stops red, red blood cells stop blue, eosin mainly green.
        assert od[:, 0].argmax() == H
        assert od[:, 2].argmax() == R
        assert od[E].argmax() == 1
        assert (od > 0).all()


def test_strength_varies_between_laboratories(stains: list[Stain]) -> None:
    strength = np.array([np.linalg.norm(stain.optical_density, axis=1) for stain in stains])
    spread = np.log(strength).std(axis=0)
    np.testing.assert_allclose(spread, [0.14, 0.18, 0.1], rtol=0.45)
    # Haematoxylin and eosin vary by themselves.
    assert abs(np.corrcoef(strength[:, H], strength[:, E])[0, 1]) < 0.5


def test_same_seed_same_stain_other_seed_another(stains: list[Stain]) -> None:
    again = draw_stain(np.random.default_rng(5))
    np.testing.assert_array_equal(again.optical_density, stains[5].optical_density)
    assert len({stain.optical_density.tobytes() for stain in stains}) == 40


def pixel_of(haematoxylin: float, eosin: float, stain: Stain) -> np.ndarray:
    """The colour of even amounts on a usual slide."""
    stains = np.zeros((6 + 2 * HALO, 5 + 2 * HALO, 3), np.float32)
    stains[..., 0], stains[..., 1] = haematoxylin, eosin
    pixels = np.empty((6, 5, 3), np.uint8)
    sensor = np.zeros((1024, 1024), np.float32)
    develop(pixels, stains, (3, 4), stain.optical_density, NEUTRAL, sensor)
    return pixels[3, 2].astype(float)


def test_no_stain_is_white() -> None:
    stain = draw_stain(np.random.default_rng(0))
    np.testing.assert_allclose(pixel_of(0, 0, stain), NEUTRAL, atol=1)


def test_light_falls_off_exponentially() -> None:
    stain = draw_stain(np.random.default_rng(0))
    once, twice = (-np.log(pixel_of(0, e, stain) / NEUTRAL) for e in (0.3, 0.6))
    np.testing.assert_allclose(twice, 2 * once, atol=0.02)


@pytest.mark.parametrize("seed", range(10))
def test_haematoxylin_is_blue_and_eosin_pink_in_every_laboratory(seed: int) -> None:
    stain = draw_stain(np.random.default_rng(seed))
    red, green, blue = pixel_of(1, 0, stain)
    assert blue > red + 15
    assert blue > green + 15
    red, green, blue = pixel_of(0, 0.5, stain)
    assert red > blue > green


def test_laboratories_differ() -> None:
    first, second = (draw_stain(np.random.default_rng(seed)).optical_density for seed in (0, 1))
    assert np.abs(first - second).max() > 0.05
