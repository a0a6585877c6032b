from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stdistill._slide import plan as plan_module
from stdistill._slide.glass import background_color
from stdistill._slide.plan import chunks_under, plan_crops
from stdistill._slide.pyramid import SlideLevel, level_for
from stdistill._slide.windows import hash_image, read_windows, sample_squares

GLASS = np.array([251, 252, 253], dtype=np.uint8)
rng = np.random.default_rng(0)


class Slide:
    """Counts how often each of its chunks is decoded."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape, self.dtype, self.ndim = pixels, pixels.shape, pixels.dtype, 3
        self.decoded: Counter[Any] = Counter()
        self.lock = threading.Lock()

    def __getitem__(self, key: Any) -> np.ndarray:
        with self.lock:
            self.decoded[tuple((part.start, part.stop) for part in key)] += 1
        return self.pixels[key]


def make_level(height: int, width: int, chunk: int) -> tuple[SlideLevel, Slide]:
    slide = Slide(rng.integers(0, 255, (3, height, width), dtype=np.uint8))
    lazy = da.from_array(slide, chunks=(3, chunk, chunk), meta=np.empty((0, 0, 0), np.uint8))
    return SlideLevel(lazy, np.ones(2)), slide


@settings(max_examples=25, deadline=None)
@given(
    st.integers(60, 700), st.integers(60, 700), st.sampled_from([17, 64, 256]), st.integers(1, 200), st.integers(1, 90)
)
def test_every_crop_is_in_its_window(height: int, width: int, chunk: int, n: int, side: int) -> None:
    """Every cell once, the pixels those of the slide, glass around it, and every chunk decoded once at most."""
    level, slide = make_level(height, width, chunk)
    origins = rng.integers((-side, -side), (width, height), (n, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "WINDOW_PX", 100)
        plan = plan_crops(level, np.arange(n) + 5, origins, side)
    assert sorted(plan.order) == list(range(5, n + 5))
    padded = np.empty((height + 2 * side, width + 2 * side, 3), dtype=np.uint8)
    padded[:] = GLASS
    padded[side : side + height, side : side + width] = np.moveaxis(slide.pixels, 0, -1)
    previous = None
    for window, pixels in zip(plan.windows, read_windows(level, plan.windows, GLASS), strict=True):
        if previous is not None:  # a window stays as it is while the next one is read
            np.testing.assert_array_equal(previous[0], previous[1])
        previous = pixels, pixels.copy()
        for place in range(window.start, window.stop):
            x, y = origins[plan.order[place] - 5]
            crop = pixels[y - window.top :, x - window.left :][:side, :side]
            np.testing.assert_array_equal(crop, padded[y + side :, x + side :][:side, :side])
    assert max(slide.decoded.values(), default=1) == 1


def test_only_chunks_under_crops_are_decoded() -> None:
    level, slide = make_level(1000, 1000, 100)
    plan = plan_crops(level, np.arange(2), np.array([[10, 20], [850, 905]]), 32)
    list(read_windows(level, plan.windows, GLASS))
    under = {chunk for window in plan.windows for chunk in chunks_under(window, level)}
    assert len(slide.decoded) == len(under)
    assert {(0, 0), (9, 8)} <= under


def test_stopping_early_leaves_no_thread() -> None:
    level, _ = make_level(2000, 2000, 64)
    plan = plan_crops(level, np.arange(500), rng.integers(0, 1900, (500, 2)), 50)
    before = threading.active_count()
    windows = read_windows(level, plan.windows, GLASS)
    next(windows)
    windows.close()
    assert threading.active_count() == before


def test_an_error_while_decoding_is_raised() -> None:
    level, slide = make_level(200, 200, 64)
    slide.pixels = None
    plan = plan_crops(level, np.arange(1), np.array([[5, 5]]), 50)
    with pytest.raises(TypeError):
        next(read_windows(level, plan.windows, GLASS))


def test_sampled_squares_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five around places near and on the edges; of an image smaller than a square what there is."""
    monkeypatch.setattr("stdistill._slide.windows.SAMPLE_PX", 64)
    places = np.array([[0, 0], [20, 480], [300, 300], [499, 250], [499, 499]])
    pixels = rng.integers(0, 255, (500, 500, 3), dtype=np.uint8)
    first, second = (
        list(
            sample_squares(
                SlideLevel(da.from_array(pixels.transpose(2, 0, 1), chunks=(3, n, n)), np.ones(2)), places, 5
            )
        )
        for n in (64, 200)
    )
    assert len(first) == 5
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(first[0], pixels[:64, :64])
    np.testing.assert_array_equal(first[2], pixels[268:332, 268:332])
    np.testing.assert_array_equal(first[4], pixels[436:, 436:])
    assert len(list(sample_squares(make_level(30, 40, 64)[0], places, 3))) == 1
    assert not list(sample_squares(make_level(30, 40, 64)[0], places[:0], 3))


def test_the_level_only_shrinks() -> None:
    levels = [SlideLevel(da.zeros((3, 512 // f, 512 // f)), np.full(2, float(f))) for f in (1, 2, 4)]
    chosen = [level_for(levels, shrinkage).factor[0] for shrinkage in (0.5, 1, 1.99, 2, 3.9, 4, 50)]
    assert chosen == [1, 1, 1, 2, 2, 4, 4]


def test_color_of_the_glass() -> None:
    pixels = rng.integers(0, 190, (3, 100, 100), dtype=np.uint8)
    assert background_color([SlideLevel(da.from_array(pixels), np.ones(2))]).tolist() == [255, 255, 255]
    pixels[:, :32] = GLASS[:, None, None]
    assert background_color([SlideLevel(da.from_array(pixels), np.ones(2))]).tolist() == GLASS.tolist()


def test_an_image_is_known_again_by_fixed_places() -> None:
    """However it is chunked; not when it is flipped, repainted in part, or of another size."""
    level, _ = make_level(700, 500, 64)
    pixels = np.asarray(level.pixels)

    def known(array: np.ndarray, chunk: int = 100) -> str | None:
        return hash_image(SlideLevel(da.from_array(array, chunks=(3, chunk, chunk)), np.ones(2)))

    assert known(pixels) == known(pixels, 1000) == hash_image(level)
    repainted = pixels.copy()
    repainted[:, 200:300, 100:200] = 255
    others = (pixels[:, ::-1], pixels[:, :, ::-1], repainted, pixels[:, :-1])
    assert len({known(pixels), *map(known, others)}) == 5
    assert known(np.full((3, 700, 500), 255, np.uint8)) is None
    assert known(pixels[:, :20, :20]) is not None
