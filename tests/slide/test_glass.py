from __future__ import annotations

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest

from stdistill._slide import plan as plan_module
from stdistill._slide.glass import background_shares, glass_of_image, is_background, stained
from stdistill._slide.plan import Slide, crop_origins, plan_crops
from stdistill._slide.pyramid import SlideLevel

WHITE = (250, 240, 230)
GLASS = np.array(WHITE, dtype=np.uint8)


def test_the_limit_is_an_optical_density_in_every_colour() -> None:
    """250, 240, 230 times exp(-.15) are 215.2, 206.6, 197.96."""
    pixels = np.array([[216, 207, 198], [215, 207, 198], [216, 206, 198], [216, 207, 197], [255] * 3])
    assert is_background(pixels.astype(np.uint8), WHITE).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("rgb_threshold", [None, 220])
def test_black_was_never_scanned(rgb_threshold: float | None) -> None:
    """As in the corners of an image that was turned, up to 8 of 255; ink and nuclei are brighter in some colour."""
    pixels = np.array([[0, 0, 0], [8, 8, 8], [0, 0, 9], [25, 25, 28], [60, 20, 90]], dtype=np.uint8)
    assert is_background(pixels, WHITE, rgb_threshold).tolist() == [True, True, False, False, False]


def test_black_is_not_stained() -> None:
    overview = np.full((3, 20, 20), 240, dtype=np.uint8)
    overview[:, :10] = np.array([150, 80, 140])[:, None, None]
    overview[:, :, :5] = 0
    expected = np.zeros((20, 20), dtype=bool)
    expected[:10, 5:] = True
    np.testing.assert_array_equal(stained(overview), expected)


def test_a_threshold_of_brightness() -> None:
    pixels = np.array([[220, 220, 220], [220, 220, 221], [255, 255, 150], [255, 255, 151]], dtype=np.uint8)
    assert is_background(pixels, WHITE, 220).tolist() == [False, True, False, True]
    assert is_background(pixels, (100, 100, 100), 220).tolist() == [False, True, False, True]


def blank(color: tuple[int, int, int], noise: float, side: int = 160) -> npt.NDArray[np.uint8]:
    """An image (3, side, side) of one colour, with noise of the sensor."""
    pixels = np.array(color)[:, None, None] + np.random.default_rng(0).normal(0, noise, (3, side, side))
    return np.rint(pixels).astype(np.uint8)


@pytest.mark.parametrize("color", [(242, 240, 243), (220, 207, 223)])
def test_glass_is_bright_and_even(color: tuple[int, int, int]) -> None:
    """Also under a haze of eosin, as on her2st, where it has the hue of pale stroma."""
    assert glass_of_image(blank(color, 2)) == pytest.approx(color, abs=1)


def test_pale_stroma_is_no_glass() -> None:
    """As bright, but uneven: deviations of 8 of 207 are more than 0.02."""
    stroma = blank((233, 207, 226), 8)
    assert glass_of_image(stroma) == (255, 255, 255)
    stroma[:, :16, :32] = blank((245, 246, 241), 1, 32)[:, :16]  # two of a hundred blocks
    assert glass_of_image(stroma) == pytest.approx((245, 246, 241), abs=1)


def test_an_image_smaller_than_a_block_tells_no_glass() -> None:
    assert glass_of_image(np.full((3, 8, 8), 240, np.uint8)) == (255, 255, 255)


@pytest.mark.parametrize("chunk", [37, 64])
def test_shares_are_those_of_each_crop_alone(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of crops that overlap, and that reach over the edge, where glass is."""
    monkeypatch.setattr(plan_module, "WINDOW_PX", 50)
    rng = np.random.default_rng(0)
    image = np.where(rng.random((150, 200, 1)) < 0.4, GLASS, np.array([150, 80, 140], dtype=np.uint8))
    level = SlideLevel(da.from_array(np.moveaxis(image, -1, 0), chunks=(3, chunk, chunk)), np.ones(2))
    px = rng.uniform(0, (200, 150), (300, 2))
    origins = crop_origins(px, 21)
    plan = plan_crops(level, np.arange(300), origins, 21)
    assert len(plan.windows) > 5
    shares = np.empty(300)
    shares[plan.order] = background_shares(Slide(plan, GLASS), WHITE)
    padded = np.pad((image == GLASS).all(axis=-1), 21, constant_values=True)
    expected = [padded[y + 21 : y + 42, x + 21 : x + 42].mean() for x, y in origins]
    np.testing.assert_allclose(shares, expected)


def test_of_a_smaller_level_whole_pixels_count() -> None:
    """A crop of 16 pixels of the full resolution, from 8 on, is 4 pixels of a level that is 4 times smaller."""
    small = np.full((3, 20, 20), 100, dtype=np.uint8)
    small[:, 2:4, 2:6] = 255
    level = SlideLevel(da.from_array(small), np.full(2, 4.0))
    plan = plan_crops(level, np.arange(2), np.array([[8, 8], [9, 9]]), 16)
    assert background_shares(Slide(plan, GLASS), (255, 255, 255)).tolist() == [0.5, 0.5]
