"""Plain images: JPEG, PNG and BMP, which are decoded as a whole."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np

from stdistill._formats.slides.image import SlideImage
from stdistill._formats.slides.level import DecodedImage
from stdistill._formats.slides.orientation import warn_of_orientation
from stdistill._slide.glass import glass_color, over_glass
from stdistill._support.arrays import Pixels
from stdistill._support.files import digest_parts

DECODERS = {"jpeg": imagecodecs.jpeg8_decode, "png": imagecodecs.png_decode, "bmp": imagecodecs.bmp_decode}
MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "bmp": b"BM"}
"""What files begin with."""
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
"""Markers of JPEG (ITU-T T.81, annex B)."""
EXIF_BYTES = 65_536
"""EXIF is one segment of a JPEG, which is no longer."""
ORIENTATION = 274


def plain_format(start: bytes) -> str | None:
    """Tell the format of a file by its first bytes, `None` for one that is not read here."""
    return next((form for form, magic in MAGIC.items() if start.startswith(magic)), None)


def open_plain(path: Path) -> SlideImage:
    """Decode an image.

    Raises
    ------
    ValueError
        When it is not whole, or not RGB of 8 bits.
    """
    pixels = _decode(path)
    height, width, _ = pixels.shape
    with path.open("rb") as file:
        start = file.read(EXIF_BYTES)
    _warn_of_orientation(start, path)
    image = DecodedImage(path, path.stat().st_mtime_ns, _decode, (3, height, width), pixels)
    return SlideImage([image], format=str(plain_format(start)), digest=digest_parts(path))


def _decode(path: Path) -> Pixels:
    """Decode an image as RGB (height, width, 3); what is transparent has the colour of glass."""
    data = path.read_bytes()
    form = plain_format(data)
    if form == "jpeg" and data.rfind(END_OF_IMAGE) < data.rfind(START_OF_SCAN):  # decoders fill up with grey
        msg = f"{path.name} is truncated: its {len(data)} bytes end before the image does. Copy it again."
        raise ValueError(msg)
    try:
        samples = DECODERS[str(form)](data)
    except (RuntimeError, ValueError) as error:  # the decoders' own errors are RuntimeErrors
        msg = f"{path.name} cannot be decoded ({error}). Copy it again, or convert it."
        raise ValueError(msg) from error
    n_channels = samples.shape[2] if samples.ndim == 3 else 1
    if samples.dtype != np.uint8 or n_channels not in ((3,) if form == "jpeg" else (3, 4)):
        msg = (
            f"{path.name} has {n_channels} channel{'s' * (n_channels > 1)} of type {samples.dtype}; an H&E is expected "
            "as RGB of 8 bits. Convert it."
        )
        raise ValueError(msg)
    rgb: Pixels = samples[..., :3]
    if n_channels == 3:
        return rgb
    opacity = samples[..., 3]
    return over_glass(rgb, opacity, glass_color(rgb[opacity == 255].T))


def _warn_of_orientation(start: bytes, path: Path) -> None:
    """Warn of the orientation in EXIF, which a JPEG has behind `Exif` and a PNG behind `eXIf`."""
    from PIL import Image

    for marker, n_skipped in ((b"Exif\0\0", 0), (b"eXIf", 4)):
        at = start.find(marker)
        if at >= 0:
            exif = Image.Exif()
            exif.load(start[at + n_skipped :])
            warn_of_orientation(exif.get(ORIENTATION), path.name)
            return
