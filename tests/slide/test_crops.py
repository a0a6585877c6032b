"""A window shown in other pixels: as crops are resampled, whatever the window."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import torch

from stdistill._slide.crops import CropCutter, resampling_weights, show_grid
from stdistill._slide.plan import plan_crops
from stdistill._slide.pyramid import SlideLevel
from stdistill._support.arrays import Interpolation

PIXELS = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


def show(corner: tuple[int, int], scale: float, low: tuple[int, int], high: tuple[int, int], how: str = "bilinear"):  # type: ignore[no-untyped-def]
    x, y = corner
    window = torch.from_numpy(PIXELS[y:, x:].copy())
    return show_grid(window, corner, np.array([scale, scale]), np.array(low), np.array(high), how)  # type: ignore[arg-type]


def test_its_own_pixels_stay_as_they_are() -> None:
    """In the place of the grid; beyond the window its border is repeated."""
    shown = show((10, 20), 1.0, (16, 16), (128, 64)).numpy()
    assert shown.dtype == np.float32
    assert shown.shape == (3, 48, 112)
    np.testing.assert_array_equal(shown[:, 4:, :104], np.moveaxis(PIXELS[20:64, 16:120], -1, 0))
    np.testing.assert_array_equal(shown[:, 4:, 104:], np.moveaxis(PIXELS[20:64, [119] * 8], -1, 0))
    np.testing.assert_array_equal(shown[:, :4, :104], np.moveaxis(PIXELS[[20] * 4, 16:120], -1, 0))


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize("quarters", [3, 5, 8])
def test_crops_are_resampled_so(quarters: int, how: str) -> None:
    """But for their rim, which sees nothing beyond the crop; `quarters` of a pixel of the level make one of a crop."""
    side_px = 24
    level = SlideLevel(da.from_array(np.moveaxis(PIXELS, -1, 0), chunks=(3, 64, 64)), np.array([4.0, 4.0]))
    plan = plan_crops(level, np.array([0]), np.array([[7, 11]]) * quarters, side_px * quarters)
    (window,) = plan.windows
    top, left = window.top, window.left
    pixels = torch.from_numpy(PIXELS[top : top + window.height, left : left + window.width].copy())
    cutter = CropCutter(pixels, plan, window)
    crop = cutter.images(cutter.cut(slice(0, 1)), slice(0, 1), side_px, how)[0]  # type: ignore[arg-type]
    low = np.array([7, 11])
    shown = show_grid(pixels, (left, top), plan.box_side / side_px, low, low + side_px, how)  # type: ignore[arg-type]
    torch.testing.assert_close(shown[:, 3:-3, 3:-3], crop[:, 3:-3, 3:-3], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("scale", [1.37, 2.5])
def test_the_window_does_not_matter(scale: float) -> None:
    one, other = (show(corner, scale, (16, 16), (32, 32)) for corner in ((0, 0), (7, 12)))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-3)


def test_both_axes_by_hand() -> None:
    """Twice as coarse: weights 1, 3, 3, 1 of 8."""
    shown = show((0, 0), 2.0, (5, 5), (6, 6))[:, 0, 0].numpy()
    weights = np.array([1, 3, 3, 1]) / 8
    np.testing.assert_allclose(shown, np.einsum("i,j,ijc->c", weights, weights, PIXELS[9:13, 9:13]), rtol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_an_enlarged_crop_repeats_its_last_whole_pixel(interpolation: Interpolation) -> None:
    """From 0.9 to 16.9 the pixels 1 to 15 are whole; the last of 32 lies 1.15 pixels beyond the centre of 15."""
    (weights,) = resampling_weights(np.array([0.9]), 16.0, 18, 32, interpolation)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights[-1], np.eye(18)[15], atol=0.15)
    assert not weights[:, [0, 16, 17]].any()
