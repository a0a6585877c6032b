"""Whether all of a TIFF is there."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from stdistill._support.reading import NOT_AS_EXPECTED

AGAIN = "Copy it again."


def check_whole(tiff: tifffile.TiffFile, path: Path) -> None:
    """Raise a `ValueError` when a file is a part of another, ends before its last page, or holds no image."""
    _check_is_master(tiff, path)
    _check_chain(tiff, path)
    try:
        n_images = len(tiff.series)
    except NOT_AS_EXPECTED as error:
        raise ValueError(damaged(path, error)) from error
    if not n_images:
        missing = _missing_files(tiff, path)
        raise ValueError(missing or f"{path.name} holds no image: copy it again, or export the H&E anew.")
    for series in tiff.series:
        for level in series.levels:
            for page in level:
                if page is not None:
                    _check_end(page)


def check_parts(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """Raise a `ValueError` when pages of a series, or places of their tiles, are not there."""
    for level in series.levels:
        for page in level:
            if page is None:
                msg = _missing_files(tiff, path) or f"{path.name} is not whole: it lacks pages of its image. {AGAIN}"
                raise ValueError(msg)
            if not len(page.dataoffsets) == len(page.databytecounts) >= math.prod(page.chunked):
                raise ValueError(damaged(path, "it does not say where all of its pixels are"))


def damaged(path: Path, how: object) -> str:
    """Say that a file is damaged."""
    return f"{path.name} is a damaged TIFF ({how}). {AGAIN}"


def _check_is_master(tiff: tifffile.TiffFile, path: Path) -> None:
    """Raise for a part of an OME-TIFF whose description is in another file."""
    root = _parse(tiff.ome_metadata) if tiff.is_ome else None
    binary = None if root is None else root.find("{*}BinaryOnly")
    if binary is not None:
        other = binary.get("MetadataFile", "another file")
        what_to_do = "read that one" if (path.parent / other).is_file() else "copy that one, too, and read it"
        msg = f"{path.name} is a part of an OME-TIFF that {other} describes: {what_to_do}."
        raise ValueError(msg)


def _check_chain(tiff: tifffile.TiffFile, path: Path) -> None:
    """Raise when a page that is there names a next one, smaller ones, or a tag behind the end of the file."""
    size = tiff.filehandle.size
    beyond = [
        int(offset) for page in tiff.pages for offset in getattr(page.keyframe, "subifds", None) or () if offset >= size
    ]
    for page in (tiff.pages.first, tiff.pages[-1].aspage()):
        beyond += _lost_tags(tiff, page)
    following = _directory(tiff, tiff.pages[-1].offset)[1]
    if max(beyond, default=following) >= size:
        raise ValueError(_truncated(path, size, max([*beyond, following])))


def _lost_tags(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> list[int]:
    """List the ends of tags that tifffile left out, since they lie behind the end of the file."""
    form = tiff.tiff
    known = {tag.code for tag in page.tags}
    ends = []
    for line in [] if tiff.is_ndpi else _directory(tiff, page.offset)[0]:  # half of an offset in NDPI is elsewhere
        code, kind = struct.unpack(form.tagformat1, line[:4])
        count, value = struct.unpack(form.tagformat2, line[4:])
        n_bytes = count * struct.calcsize(tifffile.TIFF.DATA_FORMATS.get(kind, ""))
        if code not in known and n_bytes > len(value):  # else it is in the directory itself
            ends.append(int(struct.unpack(form.offsetformat, value)[0]) + n_bytes)
    return [end for end in ends if end > tiff.filehandle.size]


def _directory(tiff: tifffile.TiffFile, offset: int) -> tuple[list[bytes], int]:
    """Read the directory of a page (TIFF 6.0, section 2): its tags, and where the next page is."""
    form, handle = tiff.tiff, tiff.filehandle
    handle.seek(offset)
    (n_tags,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
    lines = [handle.read(form.tagsize) for _ in range(n_tags)]
    (following,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    return lines, int(following)


def _check_end(page: Any) -> None:
    handle = page.parent.filehandle
    n = min(len(page.dataoffsets), len(page.databytecounts))
    ends = np.asarray(page.dataoffsets[:n], np.int64) + np.asarray(page.databytecounts[:n], np.int64)
    if ends.max(initial=0) > handle.size:
        raise ValueError(_truncated(Path(handle.path), handle.size, int(ends.max())))


def _truncated(path: Path, size: int, end: int) -> str:
    return f"{path.name} is truncated: it has {size} bytes and should have at least {end}. {AGAIN}"


def _missing_files(tiff: tifffile.TiffFile, path: Path) -> str | None:
    """Say which other files of an OME-TIFF are not beside it; `None` when all are."""
    root = _parse(tiff.ome_metadata) if tiff.is_ome else None
    named = [] if root is None else [one.get("FileName", "") for one in root.iterfind(".//{*}TiffData/{*}UUID")]
    missing = [name for name in dict.fromkeys(named) if name and not (path.parent / name).is_file()]
    if not missing:
        return None
    return (
        f"{path.name} is not whole: some of its pixels are in files of this OME-TIFF that are not beside it: "
        f"{', '.join(missing)}. Copy them into its folder, under the names they had."
    )


def _parse(xml: str | None) -> ElementTree.Element | None:
    try:
        return None if xml is None else ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
