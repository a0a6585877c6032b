"""Whole-slide TIFFs: the slide is found, checked, and opened without decoding it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from stdistill._formats.slides.content import sample
from stdistill._formats.slides.image import SlideImage
from stdistill._formats.slides.level import DecodedImage, Level
from stdistill._formats.slides.orientation import warn_of_orientation
from stdistill._formats.slides.resolution import first_stated
from stdistill._formats.slides.tiff.colors import Colors, find_colors, gives_ycbcr
from stdistill._formats.slides.tiff.layout import Layout, planes
from stdistill._formats.slides.tiff.level import Place, TiffLevel, opened
from stdistill._formats.slides.tiff.log import silent
from stdistill._formats.slides.tiff.scenes import Scene, choose_scene, find_scenes
from stdistill._formats.slides.tiff.statements import statements, xmp
from stdistill._formats.slides.tiff.whole import check_parts, check_whole, damaged
from stdistill._formats.slides.with_openslide import open_with_openslide
from stdistill._slide.glass import Color, glass_color
from stdistill._support.arrays import Pixels
from stdistill._support.files import digest_parts
from stdistill._support.warn import warn

KINDS = {"svs": "svs", "ndpi": "ndpi", "ome": "ome", "philips": "philips", "bif": "ventana", "qpi": "qptiff"}
"""Formats by the names that tifffile gives to series; all others are plain TIFFs."""
BLACK = (0, 0, 0)
SAMPLED = 8
"""Of so many rows and columns one is looked at for the colour of the glass."""
LARGE_PX = 4096
"""A side beyond which an image without a pyramid or without tiles is worth a warning."""
LARGE_STRIP_PX = LARGE_PX**2
"""A strip of more pixels is decoded once and kept, not again for each part of it that is read."""
OVERLAP = re.compile(rb"\bOverlap[XY]\s*=\s*[\"']\s*-?0*[1-9]")
"""As Ventana's scanners write of tiles that are to be stitched."""


def open_tiff(path: Path, scene: int | str | None) -> SlideImage:
    """Open the slide in a TIFF.

    Raises
    ------
    ValueError
        When it is not whole, holds several slides of which none is chosen, or one that is no RGB of 8 bits.
    """
    with _reading(path) as tiff:
        return _open(tiff, path, choose_scene(find_scenes(tiff), scene, path.name))


def list_scenes(path: Path) -> list[Scene]:
    """List the slides in a TIFF.

    Raises
    ------
    ValueError
        When it is not whole.
    """
    with _reading(path) as tiff:
        return find_scenes(tiff)


@contextmanager
def _reading(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF that is whole and holds images; what tifffile raises is said with the name of the file."""
    try:
        with opened(path, path.stat().st_mtime_ns) as tiff:
            check_whole(tiff, path)
            yield tiff
    except (struct.error, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(damaged(path, error)) from error
    except ValueError as error:
        if path.name in str(error):  # ours name the file
            raise
        raise ValueError(damaged(path, error)) from error


def _open(tiff: tifffile.TiffFile, path: Path, scene: Scene) -> SlideImage:
    series = tiff.series[scene.series]
    check_parts(tiff, series, path)
    colors = find_colors(scene.layout, series.dtype, series.keyframe, path.name)
    page = planes(series, scene.image)[0].page.aspage()
    if any(0 in Layout.of(level).size for level in series.levels):
        msg = "it has an image without pixels"
        raise ValueError(damaged(path, msg))
    if page.is_memmappable and page.dataoffsets[0] + page.nbytes > tiff.filehandle.size:
        msg = "its pixels go on beyond its end"
        raise ValueError(damaged(path, msg))
    if OVERLAP.search(xmp(page)):
        return open_with_openslide(path)
    warn_of_orientation(page.tags.valueof("Orientation"), path.name)
    _warn_if_slow(series, path)
    place = Place(path, path.stat().st_mtime_ns, scene.series, scene.image)
    return SlideImage(
        stored=_decoded(place, series, colors) if _is_decoded_once(page) else _in_parts(place, series, colors),
        format=KINDS.get(series.kind, "tiff"),
        digest=digest_parts(path),
        stated=first_stated(statements(tiff, page, scene.ome), path.name),
        scene=scene.name or None,
    )


def _in_parts(place: Place, series: tifffile.TiffPageSeries, colors: Colors) -> list[Level]:
    """Levels that are decoded tile by tile, what is missing or transparent in the colour of the slide's glass."""
    levels: list[TiffLevel] = []
    is_complete = True
    for number, level in enumerate(series.levels):
        pages = [plane.page for plane in planes(level, place.image)]
        lacks = any(0 in page.databytecounts or 0 in page.dataoffsets for page in pages)
        is_complete &= not lacks
        levels.append(
            TiffLevel(
                place,
                number,
                shape=(3, *Layout.of(level).size),
                segment=_segment(level.keyframe),
                colors=replace(colors, is_ycbcr=gives_ycbcr(level.keyframe)),
                glass=BLACK,
                finer=levels[-1] if lacks and levels else None,
            )
        )
    if is_complete and colors.alpha is None:
        return [*levels]
    seen = sample(levels[-1])  # what is not there is black as yet
    if colors.alpha is not None and not seen.any():
        warn(f"The fourth channel of {place.path.name} is 0 wherever it was looked at, and left out.")
        return _in_parts(place, series, replace(colors, alpha=None))
    return [*_over_glass(levels, glass_color(seen))]


def _over_glass(levels: Sequence[TiffLevel], glass: Color) -> list[TiffLevel]:
    done: list[TiffLevel] = []
    for level in levels:
        done.append(replace(level, glass=glass, finer=None if level.finer is None else done[-1]))
    return done


def _segment(page: Any) -> tuple[int, int]:
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def _is_decoded_once(page: Any) -> bool:
    """Whether parts of the image cannot be decoded alone, or lie open in the file."""
    return not page.is_tiled and (page.is_memmappable or int(np.prod(_segment(page))) > LARGE_STRIP_PX)


def _decoded(place: Place, series: tifffile.TiffPageSeries, colors: Colors) -> list[Level]:
    """Levels that are decoded as a whole."""
    return [
        DecodedImage(
            place.path,
            place.modified_ns,
            partial(_decode, place=place, level=number, colors=replace(colors, is_ycbcr=gives_ycbcr(level.keyframe))),
            shape=(3, *Layout.of(level).size),
        )
        for number, level in enumerate(series.levels)
    ]


def _decode(path: Path, *, place: Place, level: int, colors: Colors) -> Pixels:
    try:
        return _decode_whole(path, place, level, colors)
    except MemoryError as error:
        msg = (
            f"{path.name} cannot be read in parts, and does not fit into the memory as a whole ({error}). Convert it "
            "on a larger machine, for example with `vips tiffsave in.tif out.tif --tile --pyramid --bigtiff`; where it "
            "is not that large, the file is damaged."
        )
        raise ValueError(msg) from error


def _decode_whole(path: Path, place: Place, level: int, colors: Colors) -> Pixels:
    with silent():
        tiff = tifffile.TiffFile(path)
        pages = [plane.page for plane in planes(tiff.series[place.series].levels[level], place.image)]
    with tiff:
        page = pages[0]
        if len(pages) == 1 and page.is_memmappable and colors == Colors(alpha=None, is_ycbcr=False):
            return np.memmap(page.parent.filehandle.path, np.uint8, "r", page.dataoffsets[0], page.shape)
        if len(pages) == 1:
            samples = page.asarray()
        elif page.ndim == 2:
            samples = np.stack([each.asarray() for each in pages], axis=-1)
        else:  # planes of one page
            samples = np.moveaxis(page.asarray(), 0, -1)
    if colors.alpha is None:
        return colors.to_rgb(samples, BLACK)
    some = colors.to_rgb(samples[::SAMPLED, ::SAMPLED], BLACK)
    return colors.to_rgb(samples, glass_color(some.reshape(-1, 3).T))


def _warn_if_slow(series: tifffile.TiffPageSeries, path: Path) -> None:
    if max(series.shape) <= LARGE_PX:
        return
    lacks = [
        name for name, there in (("tiles", series.keyframe.is_tiled), ("pyramid", series.is_pyramidal)) if not there
    ]
    if lacks:
        warn(
            f"{path.name} has no {' and no '.join(lacks)}: reading will be slow. Convert it once, for example "
            "with `vips tiffsave in.tif out.tif --tile --pyramid --compression jpeg --Q 90 --bigtiff`."
        )
