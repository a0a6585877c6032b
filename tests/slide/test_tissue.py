from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from scipy.ndimage import gaussian_filter

from stdistill._slide.overview import Overview
from stdistill._slide.tissue import LIMITS, TissueMap, is_ink, map_tissue, optical_density, outline

INKS = {
    "black": (25, 25, 28),
    "blue": (40, 70, 170),
    "green": (20, 120, 60),
    "red": (200, 40, 50),
    "cyan": (20, 150, 180),
}
SIDE = 400


@pytest.fixture
def disk() -> npt.NDArray[np.bool_]:
    """A ring of tissue: 1.2 mm around a hole of 0.4 mm, at 8 µm per pixel."""
    y, x = np.mgrid[:SIDE, :SIDE]
    radius = np.hypot(y - 200, x - 180)
    return (radius < 150) & (radius > 50)


def mapped(pixels: npt.NDArray[Any]) -> TissueMap:
    return map_tissue(Overview(pixels.astype(np.float32), np.array([32.0, 32.0]), 8.0))


def overlap(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    return float((found & true).sum() / (found | true).sum())


def test_a_piece_of_tissue(disk: Any, paint: Callable, tissue: Callable) -> None:
    found = mapped(paint(*tissue(disk)))
    assert overlap(found.tissue, disk) > 0.96
    assert not found.ink.any()
    np.testing.assert_allclose(found.glass, (242, 240, 243), atol=1)


@pytest.mark.parametrize("strength", [0.5, 2.5])
def test_pale_and_dark_stains(disk: Any, paint: Callable, tissue: Callable, strength: float) -> None:
    haematoxylin, eosin = tissue(disk)
    assert overlap(mapped(paint(strength * haematoxylin, strength * eosin)).tissue, disk) > 0.95


def test_a_pale_half_is_kept(disk: Any, paint: Callable, tissue: Callable) -> None:
    """As fat and loose stroma beside a tumour, which Otsu's threshold gives to the glass."""
    haematoxylin, eosin = tissue(disk)
    weight = np.where(np.arange(SIDE) < 180, 2.0, 0.6)
    assert overlap(mapped(paint(weight * haematoxylin, weight * eosin)).tissue, disk) > 0.95


def test_a_haze_of_eosin_is_glass(disk: Any, paint: Callable, tissue: Callable) -> None:
    haematoxylin, eosin = tissue(disk)
    y, x = np.mgrid[:SIDE, :SIDE]
    haze = 0.12 * np.exp(-(((y - 200) / 90) ** 2) - ((x - 350) / 60) ** 2)
    assert overlap(mapped(paint(haematoxylin, eosin + haze)).tissue, disk) > 0.95


@pytest.mark.parametrize("noise", [0.0, 1.5, 4.0])
def test_a_blank_slide_has_no_tissue(paint: Callable, noise: float) -> None:
    nothing = np.zeros((SIDE, SIDE))
    assert not mapped(paint(nothing, nothing, noise=noise)).tissue.any()


def test_a_shaded_blank_slide_has_no_tissue(paint: Callable) -> None:
    nothing = np.zeros((SIDE, SIDE))
    shade = np.linspace(0.94, 1, SIDE)[:, None]
    assert not mapped(paint(nothing, nothing) * shade).tissue.any()


def test_all_tissue(paint: Callable, tissue: Callable) -> None:
    found = mapped(paint(*tissue(np.ones((SIDE, SIDE), bool))))
    assert found.tissue.all()
    assert found.threshold == LIMITS[1]


def test_pale_stroma_of_a_field_without_glass(paint: Callable) -> None:
    """0.3 mm at 0.5 µm per pixel: stroma as bright as glass, with fibres, and a quarter that is dense in nuclei."""
    rng = np.random.default_rng(0)
    fibres = 0.17 + 0.5 * gaussian_filter(rng.normal(size=(600, 600)), (1, 5))  # ± 0.06
    nuclei = np.zeros((600, 600))
    nuclei[:300, :300] = 1.5 * (gaussian_filter(rng.normal(size=(300, 300)), 4) > 0)
    found = map_tissue(Overview(paint(nuclei, fibres).astype(np.float32), np.ones(2), 0.5))
    assert found.glass == (255, 255, 255)
    assert found.tissue.mean() > 0.95


@pytest.mark.parametrize("ink", INKS)
def test_pen_is_no_tissue(disk: Any, paint: Callable, tissue: Callable, ink: str) -> None:
    pixels = paint(*tissue(disk))
    stroke = np.zeros_like(disk)
    stroke[30:380, 350:370] = True  # a line, 160 µm wide
    stroke[380:390, 40:300] = True  # and half as wide
    pixels[stroke] = INKS[ink]
    found = mapped(pixels)
    assert found.ink[stroke].all()
    assert found.ink.sum() < 1.6 * stroke.sum()
    assert overlap(found.tissue, disk) > 0.95


@pytest.mark.parametrize("level", [0, 12, 40])
def test_black_borders_are_no_tissue(disk: Any, paint: Callable, tissue: Callable, level: int) -> None:
    pixels = paint(*tissue(disk))
    pixels[:, 360:] = pixels[370:] = level
    found = mapped(pixels)
    assert overlap(found.tissue, disk) > 0.95
    assert found.ink[:, 360:].all()
    assert not found.tissue[:, 345:].any()  # nor what it would darken beside it


def test_small_corners_that_were_filled_are_no_tissue(disk: Any, paint: Callable, tissue: Callable) -> None:
    """Of an image that was turned a little: 16 pixels of 8 µm, 8,200 µm², less than a piece of ink has."""
    pixels = paint(*tissue(disk))
    corner = np.add.outer(np.arange(SIDE), np.arange(SIDE)) < 16
    pixels[corner] = 0
    found = mapped(pixels)
    assert found.ink[corner].all()
    assert not found.tissue[:20, :20].any()


def test_most_of_it_is_black(disk: Any, paint: Callable, tissue: Callable) -> None:
    pixels = np.zeros((3 * SIDE, 3 * SIDE, 3), np.uint8)
    pixels[500:900, 500:900] = paint(*tissue(disk))
    assert overlap(mapped(pixels).tissue[500:900, 500:900], disk) > 0.95


def test_dust_and_small_holes(disk: Any, paint: Callable, tissue: Callable) -> None:
    with_dust = disk.copy()
    with_dust[20:26, 20:26] = True  # 48 µm
    with_dust[195:205, 60:66] = False  # 80 × 48 µm
    found = mapped(paint(*tissue(with_dust)))
    assert not found.tissue[10:40, 10:40].any()
    assert found.tissue[195:205, 60:66].all()


@pytest.mark.parametrize("share", np.linspace(0, 1, 6))
@pytest.mark.parametrize("strength", [0.5, 1.5, 3.0])
def test_no_mixture_of_stains_is_ink(paint: Callable, share: float, strength: float) -> None:
    one = np.full((50, 50), strength)
    pixels = paint(share * one, (1 - share) * one, noise=1.0)
    assert is_ink(optical_density(pixels, (242, 240, 243))).mean() < 0.001


@pytest.mark.parametrize("color", [(120, 70, 40), (90, 50, 30), (150, 100, 70)])
def test_brown_pigment_is_no_ink(color: tuple[int, int, int]) -> None:
    assert not is_ink(optical_density(np.array(color, np.float32), (242, 240, 243)))


# ---- outlines


def test_polygons_cover_what_the_mask_does() -> None:
    mask = np.zeros((40, 60), bool)
    mask[5:25, 10:50] = True
    mask[10:15, 20:30] = False
    mask[12, 24] = True  # an island in the hole
    mask[30:35, 0:5] = True  # at the edge of the image
    pieces = outline(mask, np.array([4.0, 4.0]))
    assert len(pieces) == 3
    assert all(piece.is_valid and piece.geom_type == "Polygon" for piece in pieces)
    assert len(pieces[0].interiors) == 1
    assert np.diff(shapely.area(pieces)).max() <= 0
    assert shapely.area(pieces).sum() == pytest.approx(16 * mask.sum(), rel=0.04)  # corners are cut
    assert pieces[0].bounds == pytest.approx((40, 20, 200, 100), abs=2.5)
    assert shapely.bounds(shapely.union_all(pieces))[0] == pytest.approx(0, abs=1)


def test_an_island_beside_another_by_its_corner() -> None:
    mask = np.eye(6, dtype=bool)
    pieces = outline(mask, np.ones(2))
    assert shapely.is_valid(pieces).all()
    assert outline(np.zeros((5, 5), bool), np.ones(2)).size == 0


def test_pixels_of_the_two_directions_may_differ() -> None:
    mask = np.zeros((20, 20), bool)
    mask[4:8, 10:18] = True
    assert outline(mask, np.array([2.0, 3.0]))[0].bounds == pytest.approx((20, 12, 36, 24), abs=1)
