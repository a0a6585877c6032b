from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from stdistill._formats.slides.open import open_slide
from stdistill._formats.slides.tiff import level as tiff_level

Pixels = npt.NDArray[np.uint8]
GLASS = (238, 236, 234)


def rgb(level: Any) -> Pixels:
    return np.moveaxis(level.compute(), 0, -1)


def test_only_tiles_under_a_rectangle_are_decoded(
    write: Callable, draw: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = draw(600, 500)
    level = open_slide(write([pixels], compression="deflate")).stored[0]
    asked: list[int] = []
    decode = tiff_level._decode
    monkeypatch.setattr(tiff_level, "_decode", lambda plane, numbers: asked.extend(numbers) or decode(plane, numbers))
    np.testing.assert_array_equal(level[:, 100:200, 300:350], pixels.transpose(2, 0, 1)[:, 100:200, 300:350])
    assert asked == [2, 6]  # of four tiles across: those of rows 0 and 1 in column 2


@pytest.mark.parametrize(
    "key",
    [
        (slice(None), slice(3, 9), slice(0, 0)),
        (slice(None), 5, slice(None)),
        (1, slice(None), 7),
        (slice(0, 2), slice(10, 200, 4), slice(None, None, 7)),
        (slice(None), slice(299, 100, -3), slice(-5, None)),
    ],
)
def test_indices(write: Callable, draw: Callable, key: tuple[Any, ...]) -> None:
    pixels = draw(300, 200)
    level = open_slide(write([pixels])).stored[0]
    np.testing.assert_array_equal(level[key], pixels.transpose(2, 0, 1)[key])


# ---- what is missing


@pytest.mark.parametrize("compression", [None, "deflate", "jpeg", "jpeg2000"])
@pytest.mark.parametrize(("byteorder", "bigtiff"), [("<", False), (">", True)])
@pytest.mark.parametrize("offsets", [True, False])
def test_missing_tiles_are_glass(
    write: Callable,
    draw: Callable,
    leave_out: Callable,
    compression: str | None,
    byteorder: str,
    *,
    bigtiff: bool,
    offsets: bool,
) -> None:
    pixels = np.full((500, 640, 3), GLASS, np.uint8)
    pixels[:300, :300] = draw(300, 300)
    options = {"compressionargs": {"level": 95}} if compression == "jpeg" else {}
    path = write([pixels], compression=compression, byteorder=byteorder, bigtiff=bigtiff, **options)
    leave_out(path, 0, [4, 9, 19], offsets=offsets)  # of five tiles across
    read = rgb(open_slide(path).levels[0]).astype(int)
    for top, left in ((0, 512), (128, 512), (384, 512)):
        tile = read[top : top + 128, left : left + 128]
        assert (tile == tile[0, 0]).all()
        np.testing.assert_allclose(tile[0, 0], GLASS, atol=4)
    np.testing.assert_allclose(read, pixels, atol=20 if compression == "jpeg" else 4)


def test_a_slide_of_which_most_is_missing(write: Callable, draw: Callable, leave_out: Callable) -> None:
    pixels = draw(512, 512)
    path = write([pixels])
    leave_out(path, 0, range(1, 16))
    read = rgb(open_slide(path).levels[0])
    np.testing.assert_array_equal(read[:128, :128], pixels[:128, :128])
    assert read[128:].min() > 200


@pytest.mark.filterwarnings("ignore:.*shows no glass")
def test_all_of_it_is_missing(write: Callable, draw: Callable, leave_out: Callable) -> None:
    path = write([draw(256, 256)])
    leave_out(path, 0, range(4))
    assert (open_slide(path).levels[0].compute() == 255).all()


def test_missing_coarse_tiles_show_the_finer_level(
    write: Callable, draw: Callable, halve: Callable, leave_out: Callable
) -> None:
    levels = halve(draw(1024, 1024), 3)
    path = write(levels)
    leave_out(path, 1, [5, 6])
    leave_out(path, 2, [3])
    image = open_slide(path)
    for level, expected in zip(image.levels, levels, strict=True):
        np.testing.assert_allclose(rgb(level).astype(int), expected, atol=3)


def test_missing_strips_and_planes(write: Callable, draw: Callable, leave_out: Callable) -> None:
    pixels = draw(256, 256)
    path = write([pixels], tile=None, rowsperstrip=32, compression="deflate", predictor=None)
    leave_out(path, 0, [0])
    read = rgb(open_slide(path).levels[0])
    assert read[:32].min() > 200
    np.testing.assert_array_equal(read[32:], pixels[32:])
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    path = write([planes], name="planes.tif", planarconfig="separate", compression="deflate", predictor=None)
    leave_out(path, 0, [4])  # the first tile of green
    read = rgb(open_slide(path).levels[0])
    assert read[:128, :128].min() > 200  # and not a colour that the tissue never had
    np.testing.assert_array_equal(read[128:], pixels[128:])


def test_a_tile_that_cannot_be_decoded(write: Callable, draw: Callable) -> None:
    path = write([draw(512, 512)], compression="deflate", predictor=None)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.dataoffsets[6]
    data = bytearray(path.read_bytes())
    data[offset : offset + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^slide\.tif is a damaged TIFF \(its tile 6 cannot be decoded: .*Copy it"):
        open_slide(path).levels[0].compute()


# ---- threads, processes, files that change


def test_levels_can_be_sent_to_other_processes(write: Callable, draw: Callable) -> None:
    pixels = draw(300, 200)
    for options in ({}, {"tile": None}):
        image = open_slide(write([pixels], **options))
        level = pickle.loads(pickle.dumps(image.levels[0]))
        assert len(pickle.dumps(image.stored[0])) < 2000
        np.testing.assert_array_equal(rgb(level), pixels)


def test_a_file_written_anew_is_read_anew(write: Callable, draw: Callable) -> None:
    names = []
    for seed in range(2):
        pixels = draw(300, 200, seed=seed)
        level = open_slide(write([pixels])).levels[0]
        np.testing.assert_array_equal(rgb(level), pixels)
        names.append(level.name)
        time.sleep(0.01)
    assert names[0] != names[1]  # caches by dask's names see it, too


def test_a_copy_that_was_completed_is_read(write: Callable, draw: Callable) -> None:
    pixels = draw(300, 200)
    path = write([pixels], compression="deflate", predictor=None)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"truncated|damaged"):
        open_slide(path)
    time.sleep(0.01)
    path.write_bytes(whole)
    np.testing.assert_array_equal(rgb(open_slide(path).levels[0]), pixels)


def test_threads(write: Callable, draw: Callable) -> None:
    """Many read while others open the same file, which they share."""
    pixels = draw(600, 600)
    path = write([pixels], tile=(64, 64), compression="deflate", predictor=None)
    level = open_slide(path).stored[0]
    expected = pixels.transpose(2, 0, 1)

    def read(seed: int) -> bool:
        if seed % 10 == 0:
            open_slide(path)
        y, x = np.random.default_rng(seed).integers(0, 500, 2)
        return np.array_equal(level[:, y : y + 90, x : x + 90], expected[:, y : y + 90, x : x + 90])

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(200)))


def test_nothing_is_read_without_the_lock(write: Callable, draw: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by tifffile, which reads to make the decoder of a page: another thread would read in the wrong place."""
    path = write([draw(300, 200)], compression="jpeg")
    level = open_slide(path).stored[0]
    unlocked: list[int] = []
    seek = tifffile.FileHandle.seek

    def watched(self: Any, offset: int, whence: int = 0) -> int:
        with ThreadPoolExecutor(1) as other:
            if (
                self.has_lock
                and other.submit(lambda: self.lock.acquire(blocking=False) and self.lock.release() is None).result()
            ):
                unlocked.append(offset)
        return seek(self, offset, whence)

    monkeypatch.setattr(tifffile.FileHandle, "seek", watched)
    for cached in (tiff_level._open, tiff_level._planes):
        cached.cache_clear()
    level[:, :, :]
    assert unlocked == []


def _differs(job: tuple[Any, Pixels, int]) -> bool:
    level, expected, seed = job
    rng = np.random.default_rng(seed)
    for _ in range(30):
        y, x = rng.integers(0, 400, 2)
        if not np.array_equal(level[:, y : y + 90, x : x + 90].compute(), expected[:, y : y + 90, x : x + 90]):
            return True
    return False


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_readers_do_not_disturb_each_other(write: Callable, draw: Callable) -> None:
    """As in a DataLoader's workers, after the parent has read from the image."""
    pixels = draw(600, 500)
    level = open_slide(write([pixels], tile=(64, 64), compression="deflate", predictor=None)).levels[0]
    expected = level.compute(scheduler="synchronous")
    with dask.config.set(scheduler="synchronous"), multiprocessing.get_context("fork").Pool(4) as pool:
        assert not any(pool.map(_differs, [(level, expected, seed) for seed in range(4)]))


def test_other_loggers_are_heard_after_reading(write: Callable, draw: Callable, tmp_path: Path) -> None:
    import logging

    logger = logging.getLogger("tifffile")
    before = logger.level
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: open_slide(write([draw(64, 64)], name=f"{n}.tif")).levels[0].compute(), range(16)))
    assert logger.level == before
