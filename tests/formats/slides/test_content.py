from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from stdistill._formats.slides.content import MAX_SEGMENTS, check_content, sample
from stdistill._formats.slides.level import Level
from stdistill._formats.slides.open import open_slide

Pixels = npt.NDArray[np.uint8]


class Counting(Level):
    """Pixels of one colour, which counts what is asked of it."""

    def __init__(self, side: int, segment: int) -> None:
        self.shape, self.segment = (3, side, side), (segment, segment)
        self.n_px = 0

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        self.n_px += (bottom - top) * (right - left)
        return np.full((bottom - top, right - left, 3), 236, np.uint8)


@pytest.mark.parametrize(("side", "segment"), [(100_000, 256), (100_000, 16), (50_000, 2048), (300, 512), (1000, 240)])
def test_little_of_a_large_image_is_looked_at(side: int, segment: int) -> None:
    level = Counting(side, segment)
    assert sample(level).shape[0] == 3
    assert 0 < level.n_px <= max(MAX_SEGMENTS * segment**2, side if segment > side else 0) <= 5e8
    assert level.n_px <= max(4.3e6, segment**2)


def mixture(*shares: tuple[float, tuple[int, int, int]]) -> Pixels:
    """10,000 pixels (3, n) of some colours."""
    parts = [np.tile(np.array(color, np.uint8)[:, None], (1, round(10_000 * share))) for share, color in shares]
    return np.concatenate(parts, axis=1)


GLASS, PINK, BLACK, GREEN = (238, 236, 240), (205, 120, 170), (2, 1, 3), (10, 160, 20)


@pytest.mark.parametrize(
    "pixels",
    [
        mixture((0.8, GLASS), (0.2, PINK)),
        mixture((0.02, GLASS), (0.98, PINK)),
        mixture((0.7, BLACK), (0.2, PINK), (0.1, GLASS)),  # a black border
        mixture((1.0, GLASS)),
    ],
)
def test_an_he(pixels: Pixels, recwarn: pytest.WarningsRecorder) -> None:
    check_content(pixels, "he.tif")
    assert not recwarn.list


@pytest.mark.parametrize(
    "pixels", [mixture((0.9, BLACK), (0.1, GREEN)), mixture((0.55, (30, 10, 48)), (0.45, (200, 40, 20)))]
)
def test_fluorescence(pixels: Pixels) -> None:
    with pytest.raises(ValueError, match=r"^if\.tif is no H&E: \d+% of its pixels are dark .*as in fluorescence"):
        check_content(pixels, "if.tif")


@pytest.mark.parametrize(
    "pixels", [mixture((1.0, PINK)), mixture((0.995, PINK), (0.005, GLASS)), mixture((1.0, BLACK))]
)
def test_no_glass(pixels: Pixels) -> None:
    with pytest.warns(UserWarning, match=r"^all\.tif shows no glass: .*only where tissue fills the image"):
        check_content(pixels, "all.tif")


def test_an_inverted_he_is_taken_for_fluorescence(write: Callable, draw: Callable) -> None:
    pixels = draw(400, 400, n=1)
    open_slide(write([pixels]))
    with pytest.raises(ValueError, match="is no H&E"):
        open_slide(write([255 - pixels], name="inverted.tif"))


@pytest.mark.parametrize(
    "pixels",
    [
        mixture((0.7, (240, 240, 240)), (0.3, (150, 150, 150))),
        mixture((0.99, GLASS), (0.01, (120, 124, 119))),  # as JPEG rounds grey
    ],
)
def test_a_picture_in_grey(pixels: Pixels) -> None:
    with pytest.raises(ValueError, match=r"^grey\.jpg is no H&E in colour: red, green and blue are the same"):
        check_content(pixels, "grey.jpg")
