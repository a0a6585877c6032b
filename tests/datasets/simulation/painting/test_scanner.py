"""Scanners: within their limits, and the same tissue seen by each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from skimage.color import rgb2hsv

from stdistill.datasets._simulation.painting import he as he_module
from stdistill.datasets._simulation.painting.he import HePainter
from stdistill.datasets._simulation.painting.scanner import Scanner, draw_scanner, usual_scanner
from stdistill.datasets._simulation.painting.stain import Stain, draw_stain
from stdistill.datasets._simulation.painting.unevenness import draw_unevenness
from stdistill.datasets._simulation.tissue.noise import periodic_texture
from stdistill.datasets._simulation.tissue.section import Section

MPP = 0.4
STAIN = draw_stain(np.random.default_rng(1))
USUAL = usual_scanner(np.random.default_rng(1))
Look = Callable[..., np.ndarray]


@pytest.fixture
def look(section: Section) -> Look:
    """A field in the middle of the tissue, or elsewhere."""

    def paint(
        scanner: Scanner = USUAL,
        stain: Stain = STAIN,
        *,
        mpp: float = MPP,
        size: int = 160,
        corner: tuple[int, int] | None = None,
    ) -> np.ndarray:
        uneven = draw_unevenness(np.random.default_rng(2), section)
        painter = HePainter(np.random.default_rng(0), section, stain, uneven, scanner, np.diag([mpp, mpp, 1.0])[:2])
        middle = tuple(int(np.median(places) / mpp) - size // 2 for places in (section.cells.x, section.cells.y))
        return painter.paint(*(corner or middle), size, size)

    return paint


def sharpness(image: np.ndarray) -> float:
    """How much pixels differ from their neighbours."""
    return float(np.abs(np.diff(image.astype(float), axis=1)).mean())


def test_usual_white_is_bright_and_nearly_grey() -> None:
    white = np.array([usual_scanner(np.random.default_rng(seed)).white for seed in range(40)])
    assert white.min() >= 230
    assert white.max() <= 252
    assert np.ptp(white, axis=1).max() < 16


def test_usual_scanner_leaves_all_else() -> None:
    assert USUAL.gamma.tolist() == [1, 1, 1]
    assert (USUAL.blur_um, USUAL.jpeg_quality) == (0, 90)


def test_drawn_scanners_fill_their_limits() -> None:
    scanners = [draw_scanner(np.random.default_rng(seed)) for seed in range(300)]
    white = np.array([scanner.white for scanner in scanners])
    assert 219 <= white.min() < 222 < 243 < white.max() <= 246
    assert np.ptp(white, axis=1).max() <= 6
    gamma = np.array([scanner.gamma for scanner in scanners])
    assert 0.72 < gamma.min() < 0.78 < 1.3 < gamma.max() < 1.38
    assert np.ptp(np.log(gamma), axis=1).max() <= 0.14
    blur = [scanner.blur_um for scanner in scanners]
    assert 0 <= min(blur) < 0.02 < 0.43 < max(blur) <= 0.45
    assert {scanner.jpeg_quality for scanner in scanners} == set(range(70, 96))


def test_gamma_is_a_power_of_the_light_that_passes(look: Look) -> None:
    gamma = np.array([0.8, 1.0, 1.25], np.float32)
    plain, changed = (look(scanner) / USUAL.white for scanner in (USUAL, dataclasses.replace(USUAL, gamma=gamma)))
    # Rounding and noise of some 1.5 grey values remain.
    np.testing.assert_allclose(changed, plain**gamma, atol=0.05)
    assert np.abs(changed - plain**gamma).mean() < 0.005


def test_another_white_scales_the_light(look: Look) -> None:
    white = np.array([220, 230, 225], np.float32)
    plain, changed = (look(scanner) for scanner in (USUAL, dataclasses.replace(USUAL, white=white)))
    np.testing.assert_allclose(changed, plain * (white / USUAL.white), atol=2)


def test_blur_softens_and_keeps_the_density(look: Look) -> None:
    sharp, soft, softer = (look(dataclasses.replace(USUAL, blur_um=blur)) for blur in (0.0, 0.25, 0.45))
    assert sharpness(sharp) > 1.1 * sharpness(soft) > 1.1 * 1.1 * sharpness(softer)
    before, after = (-np.log(image / USUAL.white).mean(axis=(0, 1)) for image in (sharp, softer))
    np.testing.assert_allclose(after, before, rtol=0.02)


def test_blur_is_in_um(look: Look) -> None:
    """The coarser the scan, the less of it is seen."""
    blurred = dataclasses.replace(USUAL, blur_um=0.45)
    lost = [sharpness(look(blurred, mpp=mpp)) / sharpness(look(mpp=mpp)) for mpp in (0.25, 0.5, 1.0)]
    assert lost == sorted(lost)
    assert lost[0] < 0.75
    assert lost[2] > 0.9


def test_blurred_tiles_fit_together(look: Look, section: Section) -> None:
    blurred = dataclasses.replace(USUAL, blur_um=0.45)
    x, y = int(section.cells.x[700] / MPP), int(section.cells.y[700] / MPP)
    whole = look(blurred, size=200, corner=(x, y)).astype(int)
    tiles = [[look(blurred, size=100, corner=(x + i, y + j)) for i in (0, 100)] for j in (0, 100)]
    parts = np.vstack([np.hstack(row) for row in tiles])
    difference = np.abs(parts - whole)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@pytest.mark.parametrize("seed", range(12))
def test_no_scanner_clips_the_glass(look: Look, seed: int) -> None:
    scanner = draw_scanner(np.random.default_rng(seed))
    glass = look(scanner, size=500, corner=(-2000, -2000))
    assert glass.max() < 255
    np.testing.assert_allclose(glass.mean(axis=(0, 1)), scanner.white, atol=0.1)
    assert 1 < glass.std(axis=(0, 1)).min() < glass.std(axis=(0, 1)).max() < 1.6


def colour_of(image: np.ndarray) -> tuple[float, float]:
    """Hue and brightness of the mean colour of the tissue, 0 to 1."""
    tissue = image[image.mean(axis=2) < 0.9 * image.max(axis=(0, 1)).mean()].mean(axis=0) / 255
    return float(rgb2hsv(tissue)[0]), float(tissue.mean())


def test_laboratories_differ_as_much_as_documented(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    # Drawing textures anew for each of 80 painters would take most of the time.
    texture = periodic_texture(np.random.default_rng(0), 4, 14)
    monkeypatch.setattr(he_module, "periodic_texture", lambda *_: texture)
    stained = np.array([colour_of(look(stain=draw_stain(np.random.default_rng(seed)))) for seed in range(40)])
    scanned = np.array([colour_of(look(draw_scanner(np.random.default_rng(seed)))) for seed in range(40)])
    assert 0.02 < stained[:, 0].std() < 0.03
    assert 0.03 < stained[:, 1].std() / stained[:, 1].mean() < 0.05
    assert 0.007 < scanned[:, 0].std() < 0.015
    assert 0.04 < scanned[:, 1].std() / scanned[:, 1].mean() < 0.06
