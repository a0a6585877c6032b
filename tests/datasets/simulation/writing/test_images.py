"""Pyramids: what was painted, and its halves."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stdistill.datasets._simulation.writing.images import TILE, write_pyramid


@pytest.mark.parametrize("shape", [(700, 1100), (513, 512), (40, 1300, 3), (100, 90, 3)])
def test_pyramid_holds_what_was_painted_and_its_halves(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 200, shape, dtype=np.uint8)
    path = tmp_path / "image.ome.tif"
    write_pyramid(
        path,
        tmp_path,
        lambda x, y, width, height: image[y : y + height, x : x + width],
        shape,
        np.uint8,
        0.5,
        channel="some",
        compression="zlib",
    )
    with tifffile.TiffFile(path) as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    np.testing.assert_array_equal(levels[0], image)
    assert max(levels[-1].shape[:2]) <= TILE
    for larger, smaller in itertools.pairwise(levels):
        rows, columns = smaller.shape[:2]
        blocks = larger[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, -1).mean(axis=(1, 3))
        assert np.abs(blocks - smaller.reshape(rows, columns, -1)).max() <= 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["image.ome.tif"]


def test_image_is_painted_once_tile_by_tile(tmp_path: Path) -> None:
    asked: list[tuple[int, int, int, int]] = []

    def paint(x: int, y: int, width: int, height: int) -> np.ndarray:
        asked.append((x, y, width, height))
        return np.zeros((height, width), np.uint16)

    write_pyramid(tmp_path / "a.tif", tmp_path, paint, (600, 1030), np.uint16, 1, channel="DAPI", compression="zlib")
    assert sorted(asked) == [
        (0, 0, 512, 512),
        (0, 512, 512, 88),
        (512, 0, 512, 512),
        (512, 512, 512, 88),
        (1024, 0, 6, 512),
        (1024, 512, 6, 88),
    ]


def test_an_error_while_painting_is_raised(tmp_path: Path) -> None:
    def paint(*_: int) -> np.ndarray:
        raise RuntimeError("no paint")

    with pytest.raises(RuntimeError, match="no paint"):
        write_pyramid(tmp_path / "a.tif", tmp_path, paint, (90, 90), np.uint8, 1, channel="DAPI", compression="zlib")
