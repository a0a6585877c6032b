from __future__ import annotations

import io
from dataclasses import replace

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.ndimage import center_of_mass, label, laplace

from stdistill._slide.looks import JPEG_QUALITY, Look, draw_look, with_look
from stdistill._slide.pyramid import SlideLevel
from stdistill._slide.stain import RUIFROK

GLASS = np.array([240, 238, 242], dtype=np.uint8)
PLAIN = Look(GLASS.astype(float), np.eye(3), GLASS.astype(float), 1.0, 0.0, 95)


@pytest.fixture
def pixels() -> npt.NDArray[np.uint8]:
    """Spots of haematoxylin on eosin, (3, 200, 300)."""
    rng = np.random.default_rng(0)
    amounts = np.stack([np.kron(rng.random((20, 30)) > 0.7, np.ones((10, 10))), np.full((200, 300), 0.4)], axis=-1)
    light = GLASS * np.exp(-amounts @ np.array(RUIFROK))
    return np.moveaxis(light.astype(np.uint8), -1, 0)


def test_as_it_is(pixels: npt.NDArray[np.uint8]) -> None:
    """But for the JPEG."""
    shown = PLAIN.show(pixels)
    assert shown.shape == pixels.shape
    assert np.abs(shown.astype(int) - pixels).mean() < 2


def test_a_stain_of_twice_the_strength() -> None:
    """Beer and Lambert: the share of the light that passes is squared."""
    field = np.full((3, 64, 64), 120, dtype=np.uint8)
    look = Look(GLASS.astype(float), 2 * np.eye(3), GLASS.astype(float), 1.0, 0.0, 95)
    expected = GLASS * (120 / GLASS) ** 2
    np.testing.assert_allclose(look.show(field).mean(axis=(1, 2)), expected, atol=1.5)


def test_other_light() -> None:
    glass = np.broadcast_to(GLASS[:, None, None], (3, 64, 64))
    look = Look(GLASS.astype(float), np.eye(3), np.array([220.0, 223.0, 218.0]), 1.0, 0.0, 95)
    np.testing.assert_allclose(look.show(glass).mean(axis=(1, 2)), [220, 223, 218], atol=1.5)


def test_less_sharp(pixels: npt.NDArray[np.uint8]) -> None:
    shown = replace(PLAIN, blur_px=2.0).show(pixels)
    assert shown.shape == pixels.shape
    assert laplace(shown[1].astype(float)).std() < 0.8 * laplace(pixels[1].astype(float)).std()
    assert abs(shown.mean() - pixels.mean()) < 2


def test_a_coarser_scan_is_what_a_coarser_scanner_writes(pixels: npt.NDArray[np.uint8]) -> None:
    """Compressed at its own resolution: enlarged again before, it would have details that no coarse slide has."""
    fine = np.moveaxis(pixels, 0, -1)
    coarse = fine.reshape(100, 2, 150, 2, 3).mean(axis=(1, 3))
    file = io.BytesIO()
    Image.fromarray(np.floor(coarse + 0.5).astype(np.uint8)).save(file, "JPEG", quality=70)
    shown = replace(PLAIN, shrinkage=2.0, quality=70).show(pixels)
    assert shown.shape == (3, 100, 150)
    np.testing.assert_allclose(np.moveaxis(shown, 0, -1), np.asarray(Image.open(file)), atol=6)


def test_what_is_drawn() -> None:
    """Glass becomes the light of the look, and a stain keeps some of its colour."""
    stains = np.array(RUIFROK)
    looks = [draw_look(stains, GLASS, 0.25, number, (seed,)) for seed in range(10) for number in range(1, 6)]
    assert all(215 < look.white.min() < look.white.max() < 255 for look in looks)
    assert {look.shrinkage > 1 for look in looks} == {True, False}
    assert all((look.shrinkage > 1) != (look.blur_px > 0) for look in looks)
    assert all(1 <= look.shrinkage <= 2 and look.blur_px <= 0.6 / 0.25 for look in looks)
    assert all(JPEG_QUALITY[0] <= look.quality < JPEG_QUALITY[1] for look in looks)
    haematoxylin = np.array([stains[0] @ look.mixing for look in looks])
    assert 0.05 < (haematoxylin / np.linalg.norm(haematoxylin, axis=1, keepdims=True)).std(axis=0).mean() < 0.3


def test_few_looks_cover_the_range() -> None:
    """The coarsest is among them whatever the slide, and so are dim and bright light."""
    stains = np.array(RUIFROK)
    for seed in range(5):
        looks = [draw_look(stains, GLASS, 0.25, number, (seed,)) for number in range(1, 5)]
        assert [look.shrinkage for look in looks] == pytest.approx([2, 2 ** (1 / 6), 1, 2 ** (7 / 12)])
        assert [look.blur_px for look in looks] == pytest.approx([0, 0, 0.9, 0])
        brightness = np.sort([look.white.mean() for look in looks])
        assert np.ptp(brightness) > 12


def test_a_level_is_seen_alike_every_time(pixels: npt.NDArray[np.uint8]) -> None:
    level = SlideLevel(da.from_array(pixels, chunks=(3, 64, 64)), np.ones(2))
    places = np.array([[100.0, 100.0], [200.0, 100.0]])
    one, again, other = (with_look(level, places, GLASS, 0.25, number) for number in (3, 3, 7))
    assert one.shape == level.shape
    assert one.pixels.chunks == level.pixels.chunks
    assert one.pixels.dtype == np.uint8
    np.testing.assert_array_equal(one.pixels.compute(), again.pixels.compute())
    assert (one.pixels.compute() != other.pixels.compute()).mean() > 0.5


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_coarser_level_shows_the_same_places(number: int) -> None:
    """Its factor says where each pixel lies, beyond chunks of which the coarser pixels are no whole number."""
    pixels = np.full((3, 301, 503), 240, dtype=np.uint8)
    marks = np.array([[40, 30], [430, 270], [470, 40]])
    for x, y in marks:
        pixels[:, y - 6 : y + 6, x - 6 : x + 6] = 60
    level = SlideLevel(da.from_array(pixels, chunks=(3, 64, 96)), np.array([4.0, 4.0]))
    coarse = with_look(level, marks.astype(float), GLASS, 0.25, number)
    shown = coarse.pixels.compute()
    assert shown.shape == coarse.pixels.shape == (3, *coarse.shape)
    shrinkage = [2, 2 ** (1 / 6), 1, 2 ** (7 / 12)][number - 1]
    np.testing.assert_allclose(coarse.factor, 4 * shrinkage, rtol=0.02)
    blobs, n_blobs = label(shown[1] < 180)
    assert n_blobs == len(marks)
    centers = np.array(center_of_mass(np.ones_like(blobs), blobs, range(1, 1 + n_blobs)))[:, ::-1] + 0.5
    found = np.sort(centers * coarse.factor / level.factor, axis=0)
    np.testing.assert_allclose(found, np.sort(marks, axis=0), atol=shrinkage)


def test_a_slide_without_tissue() -> None:
    """Stains are those of the literature."""
    blank = SlideLevel(da.full((3, 64, 64), 240, dtype=np.uint8, chunks=(3, 64, 64)), np.ones(2))
    shown = with_look(blank, np.array([[32.0, 32.0]]), GLASS, 0.25, 1).pixels.compute()
    assert shown.min() > 210
