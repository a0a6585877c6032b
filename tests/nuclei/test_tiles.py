from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import shapely
import torch

from stdistill._measures.instances import match_places
from stdistill._nuclei import tiles as module
from stdistill._nuclei.methods import METHODS, Find, load_method
from stdistill._nuclei.nuclei import Nuclei, join_nuclei
from stdistill._nuclei.tiles import BLOCK_PX, detect_nuclei, plan_tiles, seen_from
from stdistill._nuclei.windows import Tile

MPP = 6 / 14


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> int:
    """Tiles of one block of 64 px."""
    monkeypatch.setattr(module, "TILE_BLOCKS", 1)
    return BLOCK_PX


def look(pixels: np.ndarray, tiles: Sequence[Tile], mpp: float) -> Iterator[np.ndarray]:
    for tile in tiles:
        seen = seen_from(tile, pixels.shape[:2], mpp)
        assert seen.top >= 0
        assert seen.left >= 0
        window = pixels[seen.top : seen.top + seen.height, seen.left : seen.left + seen.width]
        assert window.shape[:2] == (seen.height, seen.width)
        yield window


def detect_each(
    pixels: np.ndarray, find: Find, *, mpp: float = MPP, tiles: Sequence[Tile] | None = None
) -> Iterator[tuple[Tile, Nuclei]]:
    tiles = plan_tiles(pixels.shape[:2], mpp) if tiles is None else tiles
    return detect_nuclei(tiles, look(pixels, tiles, mpp), pixels.shape[:2], mpp, find)


def detect(pixels: np.ndarray, find: Find, *, mpp: float = MPP) -> Nuclei:
    return join_nuclei([nuclei for _, nuclei in detect_each(pixels, find, mpp=mpp)])


def test_tiles_cover_the_slide_once(small_tiles: int) -> None:
    covered = np.zeros((200, 300), dtype=int)
    for number, tile in enumerate(plan_tiles(covered.shape, MPP)):
        assert tile.number == number
        covered[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert (covered == 1).all()
    assert number + 1 == 4 * 5


def test_tiles_without_tissue_are_left_out(small_tiles: int) -> None:
    tissue = np.zeros((20, 30), dtype=bool)  # a pixel is 10 × 10 of the slide
    tissue[7, 13] = True  # 70 to 80 from the top, 130 to 140 from the left
    (tile,) = plan_tiles((200, 300), MPP, tissue=tissue)
    assert tile == Tile(number=7, top=64, left=128, height=64, width=64)
    tissue[6, 12] = True  # 60 to 70, 120 to 130: on four tiles
    assert [tile.number for tile in plan_tiles((200, 300), MPP, tissue=tissue)] == [1, 2, 6, 7]


@pytest.mark.parametrize("mpp", [MPP, 0.274, 0.9])
@pytest.mark.parametrize("method", METHODS)
def test_tiles_give_what_the_whole_gives(
    draw: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, method: str, mpp: float
) -> None:
    shape = (int(130 / mpp), int(170 / mpp))
    centres = np.random.default_rng(1).uniform(0, (shape[1], shape[0]), (250, 2))
    pixels = draw(shape, centres, diameter=6 / mpp).pixels
    find = load_method(method)
    whole = detect(pixels, find, mpp=mpp)
    monkeypatch.setattr(module, "TILE_BLOCKS", 1)
    parts = detect(pixels, find, mpp=mpp)
    assert len(whole) > 100
    assert match_places(whole.centroids, parts.centroids, radius=1e-6).f1 >= 0.995
    assert parts.area_um2.sum() == pytest.approx(whole.area_um2.sum(), rel=0.005)


@pytest.mark.parametrize("shift", [-7.0, -1.0, -0.5, 0.0, 0.5, 7.0])
def test_a_nucleus_on_a_border_is_found_once(draw: Callable[..., Any], small_tiles: int, shift: float) -> None:
    centres = np.array([(64, 32), (32, 64), (64, 64), (128, 100)]) + shift
    drawing = draw((160, 200), centres, elongation=1.0)
    for method in METHODS:
        found = detect(drawing.pixels, load_method(method))
        assert match_places(drawing.centres, found.centroids, radius=1).n_matched == len(found) == 4


def test_the_places_are_pixels_of_the_slide(draw: Callable[..., Any]) -> None:
    drawing = draw((300, 400), [(100, 80), (301.5, 200)], diameter=30, elongation=1.0)
    nuclei = detect(drawing.pixels, load_method("unet"), mpp=6 / 30)
    order = np.argsort(nuclei.centroids[:, 0])
    np.testing.assert_allclose(nuclei.centroids[order], drawing.centres, atol=0.5)
    np.testing.assert_allclose(nuclei.area_um2, np.pi * 3**2, rtol=0.15)
    np.testing.assert_allclose(shapely.area(nuclei.polygons), np.pi * 15**2, rtol=0.15)
    assert shapely.contains_xy(nuclei.polygons, nuclei.centroids).all()
    assert (nuclei.eccentricity < 0.4).all()
    assert (nuclei.solidity > 0.95).all()
    np.testing.assert_allclose(nuclei.haematoxylin, 1.2, atol=0.3)


def test_nuclei_at_the_edge_end_there(draw: Callable[..., Any]) -> None:
    drawing = draw((101, 131), [(2, 50), (128, 50), (60, 99)], elongation=1.0)
    nuclei = detect(drawing.pixels, load_method("tree"))
    assert len(nuclei) == 3
    bounds = shapely.bounds(nuclei.polygons)
    assert (bounds[:, :2] >= 0).all()
    assert (bounds[:, 2:] <= (131, 101)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (65, 129), (64, 64)])
@pytest.mark.parametrize("grey", [0, 255])
def test_slides_may_be_small_black_or_glass(small_tiles: int, shape: tuple[int, int], grey: int) -> None:
    for method in METHODS:
        assert len(detect(np.full((*shape, 3), grey, np.uint8), load_method(method))) == 0


def test_tiles_can_be_done_in_parts(field: Any, small_tiles: int) -> None:
    find = load_method("tree")
    plan = plan_tiles(field.pixels.shape[:2], MPP)
    at_once = list(detect_each(field.pixels, find))
    assert [tile for tile, _ in at_once] == plan
    later = list(detect_each(field.pixels, find, tiles=plan[7:9]))
    assert [tile.number for tile, _ in later] == [7, 8]
    for (_, nuclei), (_, again) in zip(at_once[7:9], later, strict=True):
        np.testing.assert_array_equal(nuclei.centroids, again.centroids)
        assert shapely.equals(nuclei.polygons, again.polygons).all()


def test_few_windows_are_read_ahead(field: Any, small_tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "n_cpus", lambda: 2)
    read = []

    def count(windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for window in windows:
            read.append(window)
            yield window

    shape = field.pixels.shape[:2]
    plan = plan_tiles(shape, MPP)
    found = detect_nuclei(plan, count(look(field.pixels, plan, MPP)), shape, MPP, load_method("tree"))
    next(found)
    assert len(read) == 3
    found.close()


def test_errors_of_a_method_reach_the_caller(field: Any) -> None:
    def find(density: torch.Tensor) -> np.ndarray:
        raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        detect(field.pixels, find)


def test_torch_keeps_its_threads(field: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        detect(field.pixels, load_method("unet"))
        assert torch.get_num_threads() == 3
        assert module.ThreadPoolExecutor(1).submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)
