from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stdistill._nuclei.methods import load_method
from stdistill._nuclei.scale import estimate_diameter_px, estimate_mpp, typical_diameter_px


def test_a_nucleus_of_6_um() -> None:
    assert typical_diameter_px(0.25) == 24


@pytest.mark.parametrize("method", ["unet", "tree"])
@pytest.mark.parametrize("diameter", [10.0, 22.0, 50.0])
def test_the_diameter_is_found(draw: Callable[..., Any], method: str, diameter: float) -> None:
    pitch = 2.2 * diameter
    grid = np.stack(np.meshgrid(*[np.arange(pitch / 2, 6 * pitch, pitch)] * 2), axis=-1).reshape(-1, 2)
    drawing = draw((int(6 * pitch),) * 2, grid, diameter=diameter)
    assert estimate_diameter_px([drawing.pixels], load_method(method)) == pytest.approx(diameter, rel=0.15)


def test_images_are_pooled_and_fragments_do_not_count(draw: Callable[..., Any]) -> None:
    large = draw((120, 120), [(30, 30), (90, 30), (30, 90), (90, 90)], diameter=24).pixels
    small = draw((120, 120), [(30, 30), (90, 30), (30, 90), (90, 90)], diameter=12).pixels
    estimate = estimate_diameter_px([large, small], load_method("tree"))
    assert estimate == pytest.approx(24, rel=0.15)


@pytest.mark.parametrize("images", [[], [np.full((90, 90, 3), 240, np.uint8)], [np.zeros((9, 9, 3), np.uint8)]])
def test_nothing_is_estimated_from_nothing(images: list[Any]) -> None:
    assert estimate_diameter_px(images, load_method("tree")) is None


def test_um_per_pixel_are_estimated_from_windows_with_tissue(draw: Callable[..., Any]) -> None:
    pixels = np.full((2600, 2400, 3), 244, dtype=np.uint8)
    grid = np.stack(np.meshgrid(np.arange(30, 500, 60), np.arange(30, 500, 60)), axis=-1).reshape(-1, 2)
    pixels[2080:2580, 20:520] = draw((500, 500), grid, diameter=28).pixels
    tissue = np.zeros((26, 24), dtype=bool)
    tissue[21:26, 0:5] = True
    windows = []

    def read(top: int, left: int, height: int, width: int) -> np.ndarray:
        windows.append((top, left, height, width))
        return pixels[top : top + height, left : left + width]

    mpp = estimate_mpp(read, pixels.shape[:2], load_method("tree"), tissue=tissue)
    assert mpp == pytest.approx(6 / 28, rel=0.2)
    assert windows == [(2048, 0, 552, 1024)]
    assert estimate_mpp(read, pixels.shape[:2], load_method("tree"), tissue=np.zeros_like(tissue)) is None


def test_few_windows_are_read() -> None:
    windows = []

    def read(top: int, left: int, height: int, width: int) -> np.ndarray:
        windows.append((top, left))
        return np.full((8, 8, 3), 255, dtype=np.uint8)

    assert estimate_mpp(read, (100_000, 80_000), load_method("tree")) is None
    assert len(windows) == 6
    assert windows[0] == (0, 0)
    assert windows[-1] == (97 * 1024, 78 * 1024)
