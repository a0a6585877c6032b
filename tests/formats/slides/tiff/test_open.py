from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from stdistill._formats.slides.level import DecodedImage
from stdistill._formats.slides.open import open_slide
from stdistill._formats.slides.tiff import open as tiff_open
from stdistill._formats.slides.tiff.level import TiffLevel

Pixels = npt.NDArray[np.uint8]


def rgb(level: Any) -> Pixels:
    return np.moveaxis(level.compute(), 0, -1)


def test_a_pyramid_is_used_as_it_is(write_ome: Callable, draw: Callable, halve: Callable) -> None:
    # The second level holds other pixels than a downsampling would give, to see that it is read.
    pixels = draw(600, 500)
    small = np.ascontiguousarray(halve(pixels, 2)[1][::-1])
    image = open_slide(write_ome([[pixels, small]], compression="deflate"))
    assert image.format == "ome"
    assert [level.shape for level in image.levels] == [(3, 600, 500), (3, 300, 250)]
    np.testing.assert_array_equal(rgb(image.levels[0]), pixels)
    np.testing.assert_array_equal(rgb(image.levels[1]), small)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd", "packbits", "jpeg", "jpeg2000", "webp"])
@pytest.mark.parametrize("tile", [(256, 256), (240, 240), (128, 512), None])
def test_how_files_are_written(
    write: Callable, draw: Callable, compression: str | None, tile: tuple[int, int] | None
) -> None:
    pixels = draw(300, 520)
    lossy = compression in ("jpeg", "webp")
    options: dict[str, Any] = {"compressionargs": {"level": 95}} if lossy else {}
    if tile is None and compression in ("jpeg", "jpeg2000", "webp"):
        options["rowsperstrip"] = 64
    for byteorder, bigtiff in ((">", False), ("<", True)):
        path = write(
            [pixels],
            byteorder=byteorder,
            bigtiff=bigtiff,
            tile=tile,
            compression=compression,
            predictor=None,
            **options,
        )
        read = rgb(open_slide(path).levels[0])
        np.testing.assert_allclose(read.astype(int), pixels, atol=20 if lossy else 0)


@pytest.mark.parametrize("compression", ["lzw", "deflate"])
def test_predictors(write: Callable, draw: Callable, compression: str) -> None:
    pixels = draw(300, 400)
    np.testing.assert_array_equal(
        rgb(open_slide(write([pixels], compression=compression, predictor=True)).levels[0]), pixels
    )


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_jpeg_as_ycbcr(write: Callable, draw: Callable, subsampling: tuple[int, int]) -> None:
    pixels = draw(300, 400)
    path = write([pixels], compression="jpeg", subsampling=subsampling)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages.first.photometric == tifffile.PHOTOMETRIC.YCBCR
    np.testing.assert_allclose(rgb(open_slide(path).levels[0]).astype(int), pixels, atol=20)


def test_planes(write_ome: Callable, draw: Callable) -> None:
    pixels = draw(300, 420)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    for tile in ((128, 128), None):
        path = write_ome([[planes]], axes="SYX", planarconfig="separate", tile=tile, compression="deflate")
        np.testing.assert_array_equal(rgb(open_slide(path).levels[0]), pixels)


def test_channels_in_pages(write_ome: Callable, draw: Callable, halve: Callable) -> None:
    levels = [np.ascontiguousarray(level.transpose(2, 0, 1)) for level in halve(draw(300, 420), 2)]
    for tile in ((128, 128), None):
        path = write_ome([levels], axes="CYX", photometric="minisblack", tile=tile)
        with pytest.warns(UserWarning, match="does not say that its three channels are red, green and blue"):
            image = open_slide(path)
        for level, expected in zip(image.levels, levels, strict=True):
            np.testing.assert_array_equal(level, expected)


def test_axes_of_length_one_are_dropped(write_ome: Callable, draw: Callable) -> None:
    pixels = draw(300, 200)
    np.testing.assert_array_equal(rgb(open_slide(write_ome([[pixels[None]]], axes="ZYXS")).levels[0]), pixels)


def test_strips_are_read_in_parts(write: Callable, draw: Callable) -> None:
    pixels = draw(500, 300)
    image = open_slide(write([pixels], tile=None, rowsperstrip=32, compression="lzw", predictor=None))
    assert isinstance(image.stored[0], TiffLevel)
    np.testing.assert_array_equal(rgb(image.levels[0]), pixels)
    np.testing.assert_array_equal(image.stored[0].read(30, 70, 10, 20), pixels[30:70, 10:20])


def test_open_pixels_are_mapped(write: Callable, draw: Callable) -> None:
    """Uncompressed strips lie in the file as they are in memory: nothing is read but what is asked for."""
    pixels = draw(500, 300)
    (level,) = open_slide(write([pixels], tile=None)).stored
    assert isinstance(level, DecodedImage)
    assert isinstance(level.decode(level.path), np.memmap)
    np.testing.assert_array_equal(level.read(0, 500, 0, 300), pixels)


def test_a_large_strip_is_decoded_once(write: Callable, draw: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_open, "LARGE_STRIP_PX", 1000)
    pixels = draw(200, 300)
    path = write([pixels], tile=None, rowsperstrip=200, compression="deflate", predictor=None)
    decoded: list[int] = []
    asarray = tifffile.TiffPage.asarray
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda *a, **k: decoded.append(1) or asarray(*a, **k))
    image = open_slide(path)
    np.testing.assert_array_equal(rgb(image.levels[0]), pixels)
    np.testing.assert_array_equal(rgb(image.levels[0][:, 50:60]), pixels[50:60])
    assert len(decoded) == 1


def test_pixels_beyond_the_end(write: Callable, draw: Callable) -> None:
    """A size that was spoilt: as many pixels are not in the file."""
    path = write([draw(300, 200)], tile=None)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["ImageLength"].overwrite(30_000)
        tiff.pages.first.tags["RowsPerStrip"].overwrite(30_000)
    with pytest.raises(ValueError, match=rf"{path.name} is a damaged TIFF \("):
        open_slide(path)


def test_a_whole_that_does_not_fit_into_the_memory(
    write: Callable, draw: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_open, "LARGE_STRIP_PX", 100)
    path = write([draw(300, 200)], tile=None, rowsperstrip=300, compression="deflate", predictor=None)

    def no_memory(*_: Any, **__: Any) -> None:
        msg = "Unable to allocate 94.5 GiB"
        raise MemoryError(msg)

    monkeypatch.setattr(tifffile.TiffPage, "asarray", no_memory)
    with pytest.raises(ValueError, match=rf"{path.name} .*does not fit into the memory .*94\.5 GiB.*vips tiffsave"):
        open_slide(path).levels[0].compute()


def test_levels_of_a_plain_tiff(write: Callable, draw: Callable, halve: Callable) -> None:
    levels = halve(draw(800, 600), 3)
    for first in ({}, {"subfiletype": 0}):
        image = open_slide(write(levels, first=first))
        assert image.format == "tiff"
        assert [level.shape[1:] for level in image.levels] == [(800, 600), (400, 300), (200, 150)]


def test_levels_of_an_svs(write_svs: Callable, draw: Callable, halve: Callable) -> None:
    levels = halve(draw(1000, 900), 3)
    image = open_slide(write_svs(levels, words="|AppMag = 40|MPP = 0.2521"))
    assert (image.format, image.scene) == ("svs", None)
    for level, expected in zip(image.levels, levels, strict=True):
        np.testing.assert_array_equal(rgb(level), expected)


def test_four_fluorescence_channels(write_ome: Callable, draw: Callable) -> None:
    pixels = draw(300, 200)
    planes = np.ascontiguousarray(np.concatenate([pixels, pixels[..., :1]], axis=-1).transpose(2, 0, 1))
    with pytest.raises(ValueError, match=r"has 4 channels; an H&E has three .* immunofluorescence"):
        open_slide(write_ome([[planes]], axes="CYX", photometric="minisblack"))


def test_one_channel(write_ome: Callable, draw: Callable) -> None:
    with pytest.raises(ValueError, match=r"no RGB image: its axes are Y 300 × X 200; .* DAPI"):
        open_slide(write_ome([[draw(300, 200)[..., 0]]], axes="YX", photometric="minisblack"))


def test_several_focal_planes(write_ome: Callable, draw: Callable) -> None:
    with pytest.raises(ValueError, match="no RGB image: its axes are Z 2"):
        open_slide(write_ome([[np.stack([draw(300, 200)] * 2)]], axes="ZYXS"))


@pytest.mark.parametrize("dtype", ["uint16", "int8", "float32"])
def test_other_types_of_pixels(write_ome: Callable, draw: Callable, dtype: str) -> None:
    with pytest.raises(ValueError, match=rf"pixels of type {dtype}; .*8-bit RGB.*fluorescence.*vips cast"):
        open_slide(write_ome([[draw(300, 200).astype(dtype)]]))


def test_a_large_image_without_pyramid_and_tiles(
    write: Callable, draw: Callable, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    pixels = draw(300, 200)
    open_slide(write([pixels]))
    assert not [each for each in recwarn.list if each.category is UserWarning]  # a small one is no matter
    monkeypatch.setattr(tiff_open, "LARGE_PX", 100)
    with pytest.warns(UserWarning, match=r"has no pyramid: reading will be slow"):
        open_slide(write([pixels]))
    with pytest.warns(UserWarning, match=r"no tiles and no pyramid.*vips tiffsave"):
        open_slide(write([pixels], tile=None))


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_orientation_tags(write: Callable, draw: Callable, recwarn: pytest.WarningsRecorder, orientation: int) -> None:
    pixels = draw(200, 300)
    read = rgb(open_slide(write([pixels], extratags=[(274, 3, 1, orientation, True)])).levels[0])
    np.testing.assert_array_equal(read, pixels)  # as it is stored
    said = [str(one.message) for one in recwarn.list]
    assert said == [] if orientation == 1 else "has the orientation tag" in said[0]


def test_tiles_that_overlap_are_left_to_openslide(
    write: Callable, draw: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of Ventana's scanners do: laid side by side they would show tissue twice."""
    called: list[Path] = []
    monkeypatch.setattr(tiff_open, "open_with_openslide", lambda path: called.append(path) or "slide")
    joint = '<EncodeInfo><TileJointInfo Direction="LEFT" OverlapX="{}" OverlapY="0"/></EncodeInfo>'
    for overlap in (0, 22):
        xmp = joint.format(overlap).encode()
        path = write([draw(300, 200)], extratags=[(700, 1, len(xmp), xmp, True)])
        tiff_open.open_tiff(path, None)
    assert called == [path]


def test_colors_that_are_not_rgb(write: Callable, draw: Callable) -> None:
    with pytest.raises(ValueError, match="stores its colours as CIELAB; an H&E is expected as RGB"):
        open_slide(write([draw(300, 200)], photometric="cielab"))


def test_a_real_svs(shared_data: Path) -> None:
    openslide = pytest.importorskip("openslide")
    path = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"
    image = open_slide(path)
    assert [level.shape for level in image.levels] == [(3, 2967, 2220), (3, 742, 555)]  # the second is computed
    with openslide.OpenSlide(path) as slide:
        theirs = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    np.testing.assert_array_equal(rgb(image.levels[0]), theirs)
