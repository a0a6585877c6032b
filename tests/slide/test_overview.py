from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from stdistill._slide.overview import read_overview
from stdistill._slide.pyramid import SlideLevel


def row_chunks(n: int) -> tuple[int, ...]:
    return (512,) * (n // 512) + ((n % 512,) if n % 512 else ())


def levels(side: int, *steps: int) -> list[SlideLevel]:
    """A pyramid whose pixels are the column at full resolution, divided by 16 and modulo 256."""
    column = np.arange(side) // 16 % 256
    made = []
    for step in steps:
        row = column[: side // step * step].reshape(-1, step).mean(axis=1).astype(np.uint8)
        n = side // step
        pixels = da.broadcast_to(da.from_array(row, chunks=512), (3, n, n), chunks=(3, 512, row_chunks(n)))
        made.append(SlideLevel(pixels, np.full(2, float(step))))
    return made


@pytest.mark.parametrize(
    ("steps", "mpp", "expected"),
    [
        ((1, 4, 16), 0.5, 8.0),
        ((1, 4, 16, 64), 0.25, 8.0),
        ((1,), 0.5, 8.0),
        ((1, 2), 10.0, 10.0),
        ((1, 3, 9), 0.5, 9.0),
    ],
)
def test_the_scale(steps: tuple[int, ...], mpp: float, expected: float) -> None:
    side = 36_864 if len(steps) > 2 else 9216
    found = read_overview(levels(side, *steps), mpp)
    assert found.mpp == pytest.approx(expected)
    np.testing.assert_allclose(found.factor, expected / mpp)
    assert found.pixels.dtype == np.float32
    n = int(expected / mpp)
    assert found.pixels.shape == (side // n, side // n, 3)
    np.testing.assert_allclose(found.pixels[5, :10, 0], (np.arange(10) * n + n / 2) // 16 % 256, atol=1.5)


def test_a_small_image_is_read_finer() -> None:
    found = read_overview(levels(1024, 1, 2, 4), 0.5)
    assert found.pixels.shape == (512, 512, 3)
    assert found.mpp == 1.0
    assert read_overview(levels(100, 1), 0.5).pixels.shape == (100, 100, 3)


def test_a_last_pixel_that_is_not_complete_is_left_out() -> None:
    assert read_overview(levels(1030, 1), 0.25).pixels.shape == (515, 515, 3)
    assert read_overview(levels(10_001, 1), 1.0).pixels.shape == (1250, 1250, 3)
