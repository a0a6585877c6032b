from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from stdistill._formats.slides.open import open_slide
from stdistill._formats.slides.tiff.colors import from_ycbcr

Pixels = npt.NDArray[np.uint8]
TILE = 128


def to_ycbcr(pixels: Pixels) -> Pixels:
    """The forward transform of JFIF, written out."""
    red, green, blue = (pixels[..., number].astype(float) for number in range(3))
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb = 128 - 0.168736 * red - 0.331264 * green + 0.5 * blue
    cr = 128 + 0.5 * red - 0.418688 * green - 0.081312 * blue
    return np.rint(np.clip(np.stack([y, cb, cr], axis=-1), 0, 255)).astype(np.uint8)


def rgb(path: Path) -> Any:
    return np.moveaxis(open_slide(path).levels[0].compute(), 0, -1).astype(int)


@pytest.mark.parametrize(
    ("samples", "color"),
    [
        ((128, 128, 128), (128, 128, 128)),
        ((236, 128, 128), (236, 236, 236)),
        ((76, 85, 255), (254, 0, 0)),  # red
        ((150, 44, 21), (0, 255, 1)),  # green
        ((29, 255, 107), (0, 0, 254)),  # blue
        ((170, 138, 148), (198, 152, 188)),  # pink
    ],
)
def test_known_colours(samples: tuple[int, int, int], color: tuple[int, int, int]) -> None:
    np.testing.assert_allclose(from_ycbcr(np.array([[samples]], np.uint8))[0, 0].astype(int), color, atol=1)


def test_there_and_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3)).astype(np.uint8)
    np.testing.assert_allclose(from_ycbcr(to_ycbcr(pixels)).astype(int), pixels, atol=2)


def write_jpeg_2000(path: Path, pixels: Pixels, compression: int, photometric: str, **how: Any) -> Path:
    """Write tiles of JPEG 2000 under a compression that tifffile only reads, by the name of one that it writes."""
    height, width = pixels.shape[:2]

    def tiles() -> Iterator[bytes]:
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                part = np.ascontiguousarray(pixels[top : top + TILE, left : left + TILE])
                yield imagecodecs.jpeg2k_encode(part, codecformat="j2k", level=0, **how)

    with tifffile.TiffWriter(path) as tiff:
        options = {"tile": (TILE, TILE), "photometric": photometric, "metadata": None, "compression": 34712}
        tiff.write(tiles(), shape=pixels.shape, dtype=np.uint8, subsampling=(1, 1), **options)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["Compression"].overwrite(compression)
    return path


@pytest.mark.parametrize(
    ("compression", "photometric"), [(33003, "rgb"), (33003, "ycbcr"), (34712, "ycbcr"), (33005, "ycbcr")]
)
def test_jpeg_2000_that_holds_ycbcr(tmp_path: Path, draw: Callable, compression: int, photometric: str) -> None:
    pixels = draw(256, 384)
    path = write_jpeg_2000(tmp_path / "a.svs", to_ycbcr(pixels), compression, photometric, mct=False, reversible=True)
    np.testing.assert_allclose(rgb(path), pixels, atol=2)


@pytest.mark.parametrize("compression", [33003, 33005, 34712])
@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_jpeg_2000_whose_decoder_gives_rgb(tmp_path: Path, draw: Callable, compression: int, photometric: str) -> None:
    """By the codestream's own colour transform, whatever the tags say."""
    pixels = draw(256, 384)
    path = write_jpeg_2000(tmp_path / "a.svs", pixels, compression, photometric, mct=True, reversible=True)
    np.testing.assert_array_equal(rgb(path), pixels)


@pytest.mark.parametrize("compression", [33005, 34712])
def test_jpeg_2000_that_holds_rgb(tmp_path: Path, draw: Callable, compression: int) -> None:
    pixels = draw(256, 384)
    path = write_jpeg_2000(tmp_path / "a.svs", pixels, compression, "rgb", mct=False, reversible=True)
    np.testing.assert_array_equal(rgb(path), pixels)


# ---- opacity


def with_opacity(pixels: Pixels) -> Pixels:
    """A scan whose left quarter is transparent black, and the next one half transparent."""
    opacity = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    quarter = pixels.shape[1] // 4
    opacity[:, :quarter] = 0
    opacity[:, quarter : 2 * quarter] = 128
    rgba = np.concatenate([pixels, opacity], axis=-1)
    rgba[:, :quarter, :3] = 0
    return rgba


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("options", [{}, {"tile": None}, {"tile": None, "rowsperstrip": 32, "compression": "deflate"}])
def test_what_is_transparent_is_glass(write: Callable, draw: Callable, kind: str, options: dict[str, Any]) -> None:
    pixels = draw(200, 400, seed=3)
    rgba = with_opacity(pixels)
    if kind == "assocalpha":
        rgba[..., :3] = np.rint(rgba[..., :3] * (rgba[..., 3:] / 255.0))
    read = rgb(write([rgba], extrasamples=[kind], predictor=None, **options))
    np.testing.assert_array_equal(read[:, 200:], pixels[:, 200:])
    glass = read[0, 0]
    assert (read[:, :100] == glass).all()
    assert glass.min() > 220
    np.testing.assert_allclose(read[:, 100:200], (pixels[:, 100:200] * 128.0 + glass * 127) / 255, atol=2)


def test_opacity_that_says_nothing_of_itself(write: Callable, draw: Callable) -> None:
    pixels = draw(200, 400)
    rgba = np.concatenate([pixels, np.full((200, 400, 1), 255, np.uint8)], axis=-1)
    with pytest.warns(UserWarning, match="does not say what its fourth channel is; it is taken to be opacity"):
        np.testing.assert_array_equal(rgb(write([rgba], extrasamples=["unspecified"])), pixels)


def test_opacity_that_is_zero_everywhere(write: Callable, draw: Callable) -> None:
    """As programs write it that do not mean it: all of the slide would be gone."""
    pixels = draw(200, 400)
    rgba = np.concatenate([pixels, np.zeros((200, 400, 1), np.uint8)], axis=-1)
    with pytest.warns(UserWarning, match="fourth channel of slide.tif is 0 wherever it was looked at, and left out"):
        np.testing.assert_array_equal(rgb(write([rgba], extrasamples=["unassalpha"])), pixels)
