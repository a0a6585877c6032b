from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from stdistill._formats.slides.level import DecodedImage
from stdistill._formats.slides.open import open_slide

ENCODE = {
    "png": imagecodecs.png_encode,
    "bmp": imagecodecs.bmp_encode,
    "jpeg": lambda pixels: imagecodecs.jpeg8_encode(pixels, level=95),
}


@pytest.mark.parametrize("form", ENCODE)
def test_formats(tmp_path: Path, draw: Callable, form: str) -> None:
    pixels = draw(210, 331)
    path = tmp_path / "he.img"
    path.write_bytes(ENCODE[form](pixels))
    image = open_slide(path)
    assert (image.format, image.shape, image.stated) == (form, (210, 331), None)
    read = np.moveaxis(image.levels[0].compute(), 0, -1)
    np.testing.assert_allclose(read.astype(int), pixels, atol=12 if form == "jpeg" else 0)


def test_transparent_pixels_are_glass(tmp_path: Path, draw: Callable) -> None:
    pixels = draw(200, 300)
    opacity = np.full((200, 300, 1), 255, np.uint8)
    opacity[:50] = 0
    opacity[50:60] = 128
    pixels[:50] = 0
    path = tmp_path / "he.png"
    path.write_bytes(imagecodecs.png_encode(np.concatenate([pixels, opacity], axis=-1)))
    read = np.moveaxis(open_slide(path).levels[0].compute(), 0, -1).astype(int)
    np.testing.assert_array_equal(read[60:], pixels[60:])
    glass = read[0, 0]
    np.testing.assert_allclose(glass, (238, 236, 234), atol=8)  # the median, pale tissue included
    assert (read[:50] == glass).all()
    np.testing.assert_allclose(read[50:60], (pixels[50:60] * 128.0 + glass * 127) / 255, atol=1)


@pytest.mark.parametrize(
    ("form", "pixels", "message"),
    [
        ("png", np.full((64, 64), 230, np.uint8), "has 1 channel of type uint8"),
        ("png", np.full((64, 64, 2), 230, np.uint8), "has 2 channels of type uint8"),
        ("png", np.full((64, 64, 3), 60_000, np.uint16), "has 3 channels of type uint16"),
        ("jpeg", np.full((64, 64), 230, np.uint8), "has 1 channel of type uint8"),
    ],
)
def test_no_rgb(tmp_path: Path, form: str, pixels: Any, message: str) -> None:
    path = tmp_path / "he.img"
    path.write_bytes(ENCODE[form](pixels))
    with pytest.raises(ValueError, match=rf"^he\.img {message}; an H&E is expected as RGB of 8 bits"):
        open_slide(path)


@pytest.mark.parametrize("form", ["png", "jpeg"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.99])
def test_not_copied_to_its_end(tmp_path: Path, draw: Callable, form: str, kept: float) -> None:
    data = ENCODE[form](draw(400, 400))
    path = tmp_path / "he.img"
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match=r"^he\.img (is truncated|cannot be decoded)"):
        open_slide(path)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation(
    tmp_path: Path, draw: Callable, recwarn: pytest.WarningsRecorder, form: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "he.img"
    Image.fromarray(draw(120, 200)).save(path, format=form, exif=exif)
    assert open_slide(path).shape == (120, 200)  # as it is stored
    said = [str(one.message) for one in recwarn.list]
    assert said == [] if orientation == 1 else f"has the orientation tag {orientation}, by which" in said[0]


def test_pixels_are_decoded_once(tmp_path: Path, draw: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "he.png"
    path.write_bytes(imagecodecs.png_encode(draw(200, 300)))
    image = open_slide(path)
    path.unlink()  # nothing is read again
    assert isinstance(image.stored[0], DecodedImage)
    assert image.levels[0].compute().shape == (3, 200, 300)
