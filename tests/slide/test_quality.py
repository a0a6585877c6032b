from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from stdistill._slide.overview import Overview
from stdistill._slide.pyramid import SlideLevel
from stdistill._slide.quality import (
    MAX_FIELDS,
    _around,
    _corners,
    blockiness,
    find_folds,
    lower_limit,
    measure,
    measure_fields,
)
from stdistill._slide.stain import RUIFROK
from stdistill._slide.tissue import map_tissue

GLASS = (242, 240, 243)
STAINS = np.array(RUIFROK)


@pytest.fixture(scope="module")
def field(paint: Callable) -> npt.NDArray[np.uint8]:
    """Tissue at 0.5 µm per pixel: round nuclei with sharp borders on fibres."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    nuclei = np.zeros((256, 256))
    for top, left in rng.uniform(0, 256, (90, 2)):
        nuclei = np.maximum(nuclei, np.hypot(y - top, x - left) < 7)
    fibres = 0.3 + 0.2 * (gaussian_filter(rng.normal(size=(256, 256)), (1, 6)) > 0)
    sharp = paint(gaussian_filter(nuclei, 0.7), gaussian_filter(fibres, 0.7), noise=1)
    return np.asarray(sharp)


def blurred(field: Any, sigma: float) -> npt.NDArray[np.uint8]:
    return np.rint(gaussian_filter(field.astype(float), (sigma, sigma, 0))).astype(np.uint8)


def test_focus_falls_with_blur(field: Any) -> None:
    focus = [measure(blurred(field, sigma), GLASS)[0] for sigma in (0, 0.7, 1, 1.5, 2, 3, 4)]
    assert np.diff(focus).max() < 0
    assert focus[0] > 0.55
    assert focus[4] < focus[0] - 0.15


@pytest.mark.parametrize("change", ["darker", "paler", "noise", "mirrored"])
def test_focus_is_not_of_light(field: Any, change: str) -> None:
    other = {
        "darker": field * 0.7,
        "paler": 242 - (242 - field) * 0.5,
        "noise": field + np.random.default_rng(0).normal(0, 3, field.shape),
        "mirrored": field[::-1, ::-1],
    }[change]
    found = measure(np.clip(other, 0, 255).astype(np.uint8), GLASS)
    assert found is not None
    assert found[0] == pytest.approx(measure(field, GLASS)[0], abs=0.04)


def test_a_field_of_glass_says_nothing() -> None:
    assert measure(np.full((256, 256, 3), 241, np.uint8), GLASS) is None


def test_what_is_overexposed(field: Any) -> None:
    assert measure(field, GLASS)[1] == 0
    light = np.clip(field.astype(float) * 1.3, 0, 255).astype(np.uint8)
    stained = light.min(axis=-1) < 240 - 40
    expected = (light.max(axis=-1) == 255)[stained].mean()
    assert measure(light, GLASS)[1] == pytest.approx(expected)
    assert expected > 0.3


def test_blocks_of_hand_worked_steps() -> None:
    """Steps of 1 within blocks of eight and of 4 at their borders."""
    steps = np.ones(256)
    steps[8::8] = 4
    ramp = np.cumsum(steps)
    grey = ramp[:, None] + ramp[None, :]
    assert blockiness(grey) == pytest.approx(4)
    assert blockiness(grey[3:, 5:]) == pytest.approx(4)  # wherever the grid begins
    assert blockiness(np.cumsum(np.ones((64, 64)), axis=0) + np.cumsum(np.ones((64, 64)), axis=1)) == pytest.approx(1)


def test_blocks_of_jpeg(field: Any) -> None:
    def compressed(level: int) -> float:
        return blockiness(imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(field, level=level)).mean(axis=-1))

    found = [blockiness(field.mean(axis=-1)), compressed(90), compressed(50), compressed(10)]
    assert found[0] < 1.12
    assert np.diff(found).min() > -0.02
    assert found[3] > 1.3


@pytest.mark.parametrize("kind", ["fold", "none"])
def test_folds(paint: Callable, tissue: Callable, kind: str) -> None:
    """Two layers of tissue, 160 µm wide, absorb twice as much."""
    haematoxylin, eosin = tissue(np.ones((300, 300), bool))
    haematoxylin = gaussian_filter(haematoxylin, 2)
    band = np.zeros((300, 300), bool)
    if kind == "fold":
        band[140:160, 40:260] = True
    doubled = 1.0 + band
    overview = Overview(paint(haematoxylin * doubled, eosin * doubled).astype(np.float32), np.full(2, 32.0), 8.0)
    found = find_folds(overview, map_tissue(overview), STAINS)
    if kind == "none":
        assert not found.any()
        return
    assert found[band].mean() > 0.8
    assert found[~band].mean() < 0.01


@pytest.mark.parametrize(("eosin_ratio", "is_fold"), [(2.0, True), (0.6, False)])
def test_lymphoid_tissue_is_no_fold(paint: Callable, eosin_ratio: float, is_fold: bool) -> None:
    """It is as dark as two layers, for its haematoxylin: of eosin it has less than the stroma around it."""
    dense = np.zeros((300, 300), bool)
    dense[130:170, 120:180] = True
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(300, 300)), 3)
    haematoxylin, eosin = np.where(dense, 0.9, 0.2) + 0.1 * noise, 0.3 + 0.1 * noise
    pixels = paint(haematoxylin, eosin * np.where(dense, eosin_ratio, 1.0))
    overview = Overview(pixels.astype(np.float32), np.full(2, 32.0), 8.0)
    found = find_folds(overview, map_tissue(overview), STAINS)
    assert found[dense].mean() == pytest.approx(float(is_fold), abs=0.15)
    assert found[~dense].mean() < 0.01


def test_no_folds_where_stains_are_unknown(paint: Callable, tissue: Callable) -> None:
    haematoxylin, eosin = tissue(np.ones((300, 300), bool))
    doubled = np.ones((300, 300))
    doubled[140:160, 40:260] = 2
    overview = Overview(paint(haematoxylin * doubled, eosin * doubled).astype(np.float32), np.full(2, 32.0), 8.0)
    assert not find_folds(overview, map_tissue(overview), None).any()


def test_limits() -> None:
    values = np.array([0.6, 0.62, 0.58, 0.6, 0.61, 0.59, 0.2])
    assert lower_limit(values, 4) == pytest.approx(0.6 - 4 * 1.4826 * 0.01)
    assert lower_limit(np.full(5, 0.6), 4) < 0.6


def test_fields_lie_on_tissue_and_are_not_many(paint: Callable, tissue: Callable) -> None:
    y, x = np.mgrid[:1000, :1000]
    mask = np.hypot(y - 500, x - 400) < 300
    overview = Overview(paint(*tissue(mask)).astype(np.float32), np.full(2, 32.0), 8.0)
    level = SlideLevel(da.zeros((3, 16_000, 16_000), dtype=np.uint8, chunks=(3, 1024, 1024)), np.full(2, 2.0))
    corners = _corners(level, map_tissue(overview).tissue, overview, 256)
    centers = (corners + 128) * 2 / 32
    assert np.hypot(centers[:, 1] - 500, centers[:, 0] - 400).max() < 310
    assert MAX_FIELDS / 2 < len(corners) <= MAX_FIELDS
    assert len(np.unique(corners, axis=0)) == len(corners)
    # Evenly: every quarter has as many.
    quarter = np.bincount(2 * (centers[:, 0] > 400) + (centers[:, 1] > 500), minlength=4)
    assert quarter.min() > 0.7 * quarter.max()


def test_fields_are_where_they_say(field: Any) -> None:
    """The left half of a slide is sharp, the right one blurred; both are of tissue."""
    row = np.concatenate([field, field, blurred(field, 3), blurred(field, 3)], axis=1)
    pixels = np.concatenate([row, row])
    level = SlideLevel(da.from_array(np.moveaxis(pixels, -1, 0), chunks=(3, 300, 300)), np.ones(2))
    overview = Overview(pixels[::2, ::2].astype(np.float32), np.full(2, 2.0), 1.0)
    fields = measure_fields(level, map_tissue(overview), overview, n_kept=4)
    assert fields.centers[:4].tolist() == [[128, 128], [384, 128], [640, 128], [896, 128]]
    sharp = fields.centers[:, 0] < 512
    assert fields.focus[sharp].min() > fields.focus[~sharp].max() + 0.1
    np.testing.assert_array_equal(fields.pixels[0], field)
    assert len(fields.pixels) >= 4


def test_a_dark_piece_that_stands_alone_is_no_fold(paint: Callable, tissue: Callable) -> None:
    """2 mm of tissue that absorbs twice as much as a pale piece far from it: nothing near says what is usual."""
    mask = np.zeros((400, 900), bool)
    mask[100:350, 50:300] = mask[100:350, 600:850] = True
    haematoxylin, eosin = tissue(mask)
    haematoxylin = gaussian_filter(haematoxylin, 2)
    dark = np.ones(mask.shape)
    dark[:, 600:] = 2.0
    overview = Overview(paint(haematoxylin * dark, eosin * dark).astype(np.float32), np.full(2, 32.0), 8.0)
    assert find_folds(overview, map_tissue(overview), STAINS)[150:300, 650:800].mean() < 0.01


@pytest.mark.parametrize("shape", [(333, 470), (90, 60)])
def test_surroundings_in_larger_pixels_are_the_same(shape: tuple[int, int]) -> None:
    """Means of what is around, weighted by nearness, also at the borders and of a field that is all surroundings."""
    rng = np.random.default_rng(0)
    amount = gaussian_filter(rng.normal(size=shape), 6) * 30 + 2
    weight = (rng.random(shape) < 0.7).astype(np.float32)
    for sigma in (4.0, 25.0, 100.0):
        expected = gaussian_filter(amount * weight, sigma) / gaussian_filter(weight, sigma)
        found = _around((amount * weight).astype(np.float32), sigma) / _around(weight, sigma)
        assert found.shape == shape
        np.testing.assert_allclose(found, expected, atol=0.1 * amount.std())
