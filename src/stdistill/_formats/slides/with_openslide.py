"""Formats that OpenSlide reads, through `openslide-python` where it is installed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stdistill._formats.slides.image import SlideImage
from stdistill._formats.slides.level import Level
from stdistill._formats.slides.resolution import StatedMpp, parse_number
from stdistill._slide.glass import Color, over_glass
from stdistill._support.arrays import Pixels
from stdistill._support.files import digest_parts

SUFFIXES = (".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide", ".dcm", ".czi")
"""Names of files that OpenSlide alone reads, or reads right."""
INSTALL = "install it with `pip install 'stdistill[openslide]'`"


@dataclass(frozen=True)
class OpenSlideLevel(Level):
    """A level of a slide as RGB (3, height, width), over the slide's background.

    It holds no open file, so it can be sent to other processes.
    """

    path: Path
    modified_ns: int
    level: int
    shape: tuple[int, int, int]
    factor: tuple[float, float]
    """Pixels of the full resolution per pixel of this level, along y and x."""
    background: Color
    segment = (256, 256)

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """Decode a rectangle."""
        slide = _open(self.path, self.modified_ns, os.getpid())
        corner = round(left * self.factor[1]), round(top * self.factor[0])
        samples = np.asarray(_reading(self.path, slide.read_region, corner, self.level, (right - left, bottom - top)))
        return over_glass(samples[..., :3], samples[..., 3], self.background)


def open_with_openslide(path: Path) -> SlideImage:
    """Open a slide.

    Raises
    ------
    ImportError
        When `openslide-python` is not installed.
    ValueError
        When it cannot be opened.
    """
    modified_ns = path.stat().st_mtime_ns
    slide = _open(path, modified_ns, os.getpid())
    properties = dict(slide.properties)
    width, height = slide.dimensions
    background = _color(properties.get("openslide.background-color", "FFFFFF"))
    levels = [
        OpenSlideLevel(path, modified_ns, number, (3, h, w), (height / h, width / w), background)
        for number, (w, h) in enumerate(slide.level_dimensions)
    ]
    return SlideImage(
        levels,
        format=properties.get("openslide.vendor", "openslide"),
        # That of OpenSlide covers files beside the one that is named.
        digest=properties.get("openslide.quickhash-1") or digest_parts(path),
        stated=_stated(properties),
        bounds=_bounds(properties),
    )


def _stated(properties: dict[str, str]) -> StatedMpp | None:
    x, y = (parse_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy")
    return None if x is None or y is None else StatedMpp(x, y, "mpp-x and mpp-y of OpenSlide")


def _bounds(properties: dict[str, str]) -> tuple[int, int, int, int] | None:
    """Return what was scanned of a slide, where more than that is shown."""
    found = [properties.get(f"openslide.bounds-{name}") for name in ("x", "y", "width", "height")]
    if None in found:
        return None
    left, top, width, height = (int(str(one)) for one in found)
    return left, top, width, height


def _color(text: str) -> Color:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


@lru_cache(maxsize=16)
def _open(path: Path, modified_ns: int, process: int) -> Any:
    """Open a slide once; a forked process opens its own."""
    try:
        import openslide
    except ImportError as error:
        msg = f"{path.name} is read through OpenSlide, which cannot be loaded ({error}): {INSTALL}."
        raise ImportError(msg) from error
    return _reading(path, openslide.OpenSlide, str(path))


def _reading(path: Path, read: Any, *arguments: Any) -> Any:
    from openslide import OpenSlideError

    try:
        return read(*arguments)
    except OpenSlideError as error:
        _open.cache_clear()  # after an error a slide answers nothing but that error
        msg = (
            f"{path.name} cannot be read by OpenSlide ({error}). Is all of it there? Formats such as MIRAX and VMS "
            "have their pixels in files beside it."
        )
        raise ValueError(msg) from error
