from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from stdistill._formats.slides import reduced
from stdistill._formats.slides.level import Level
from stdistill._formats.slides.reduced import OVERVIEW_PX, ReducedLevel, with_small_levels

Pixels = npt.NDArray[np.uint8]


class Given(Level):
    """Pixels in memory."""

    segment = (64, 64)

    def __init__(self, pixels: Pixels) -> None:
        self.pixels, self.shape = pixels, (3, *pixels.shape[:2])

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        assert 0 <= top < bottom <= self.shape[1]
        assert 0 <= left < right <= self.shape[2]
        return self.pixels[top:bottom, left:right]


def test_a_pixel_is_the_mean_of_sixteen() -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4, 0] = np.arange(16).reshape(4, 4)  # mean 7.5
    pixels[0, :4, 1] = 200  # mean 50
    pixels[:, 4:, 2] = 255
    level = ReducedLevel(Given(pixels))
    assert level.shape == (3, 1, 2)
    assert level[:, :, :].tolist() == [[[8, 0]], [[50, 0]], [[0, 255]]]


@pytest.mark.parametrize(("height", "width"), [(400, 400), (401, 403), (5, 7), (1, 1), (399, 2)])
def test_incomplete_pixels_at_the_end(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    level = ReducedLevel(Given(pixels))
    padded = np.pad(pixels, ((0, -height % 4), (0, -width % 4), (0, 0)), mode="edge").astype(float)
    expected = padded.reshape(-(-height // 4), 4, -(-width // 4), 4, 3).mean(axis=(1, 3))
    assert level.shape[1:] == expected.shape[:2]
    for band in (4_000_000, 3000, 1):  # as few rows at once as can be
        monkeypatch.setattr(reduced, "BAND_PX", band)
        np.testing.assert_allclose(np.moveaxis(level[:, :, :], 0, -1).astype(float), expected, atol=0.51)
    np.testing.assert_array_equal(level[:, -1:, -1:], level[:, :, :][:, -1:, -1:])


@pytest.mark.parametrize(("sides", "n"), [((100, 100), 1), ((2048, 2048), 1), ((2049, 10), 2), ((8000, 40_000), 4)])
def test_there_is_a_small_level(sides: tuple[int, int], n: int) -> None:
    class Empty(Level):
        shape = (3, *sides)
        segment = (256, 256)

        def read(self, *_: int) -> Pixels:
            raise AssertionError

    levels = with_small_levels([Empty()])  # nothing is decoded for it
    assert len(levels) == n
    assert max(levels[-1].shape) <= OVERVIEW_PX


@pytest.mark.parametrize("side", [64, 512])
def test_every_tile_is_decoded_once(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    """However thin the bands would be: tiles are decoded whole."""
    monkeypatch.setattr(reduced, "BAND_PX", 1000)

    class Counted(Given):
        segment = (side, side)
        decoded = np.zeros(4096 // side, int)

        def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
            self.decoded[top // side : -(-bottom // side)] += 1
            return super().read(top, bottom, left, right)

    source = Counted(np.zeros((4096, 300, 3), np.uint8))
    ReducedLevel(source).read(0, 1024, 0, 75)
    assert (Counted.decoded == 1).all()
