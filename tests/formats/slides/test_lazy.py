from __future__ import annotations

import pickle

import numpy as np
import numpy.typing as npt
import pytest

from stdistill._formats.slides.lazy import as_dask, chunk_shape
from stdistill._formats.slides.level import Level


class Coordinates(Level):
    """A level of any size whose colours are the row, the column and their sum, modulo 256."""

    def __init__(self, height: int, width: int, segment: tuple[int, int]) -> None:
        self.shape, self.segment = (3, height, width), segment

    def read(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.uint8]:
        y, x = np.mgrid[top:bottom, left:right]
        return np.stack([y % 256, x % 256, (y + x) % 256], axis=-1).astype(np.uint8)

    def __dask_tokenize__(self) -> object:
        return self.shape, self.segment


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ((256, 256), (1024, 1024)),
        ((512, 512), (1024, 1024)),
        ((240, 240), (960, 960)),
        ((1024, 1024), (1024, 1024)),
        ((4096, 4096), (4096, 4096)),  # a tile is never decoded for a part of it
        ((8, 512), (1024, 1024)),  # NDPI: 256 strips
        ((8, 100_000), (8, 100_000)),
        ((1, 30_000), (34, 30_000)),
        ((64, 4032), (256, 4032)),
    ],
)
def test_chunks_are_whole_segments(segment: tuple[int, int], expected: tuple[int, int]) -> None:
    shape = (200_000, 200_000)
    assert chunk_shape(shape, segment) == expected
    assert all(side % one == 0 for side, one in zip(expected, segment, strict=True))
    assert chunk_shape((300, 200), segment) == (min(300, expected[0]), min(200, expected[1]))


@pytest.mark.parametrize("segment", [(256, 256), (8, 512), (16, 16), (240, 240)])
def test_the_graph_of_a_large_slide_is_small(segment: tuple[int, int]) -> None:
    level = as_dask(Coordinates(100_000, 100_000, segment))
    assert level.npartitions < 12_000
    assert len(level.dask.layers) == 1
    assert len(pickle.dumps(level)) < 1_000_000
    window = level[:, 70_000:70_224, 99_900:100_000].compute()
    assert window.shape == (3, 224, 100)
    assert window[:, 5, 7].tolist() == [(70_005) % 256, (99_907) % 256, (70_005 + 99_907) % 256]


def test_every_pixel_is_in_its_place() -> None:
    source = Coordinates(1500, 2100, (128, 240))
    np.testing.assert_array_equal(as_dask(source), np.moveaxis(source.read(0, 1500, 0, 2100), -1, 0))
