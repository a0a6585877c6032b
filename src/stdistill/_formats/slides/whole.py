"""Whether all of a TIFF is there."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

AGAIN = "Copy it again."


def check_whole(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """Raise a `ValueError` when pixels of a series are not there, or lie behind the end of the file."""
    _check_chain(tiff, path)
    for level in series.levels:
        try:
            pages = [level[number] for number in range(len(level))]
        except IndexError as error:
            msg = f"{path.name} is not whole: pages of its image are missing. {AGAIN}"
            raise ValueError(msg) from error
        if any(page is None for page in pages):
            raise ValueError(_missing_files(tiff, path))
        for page in pages:
            _check_page(page, path)


def check_is_master(tiff: tifffile.TiffFile, path: Path) -> None:
    """Raise a `ValueError` for a part of an OME-TIFF whose description is in another file."""
    root = _parse(tiff.ome_metadata) if tiff.is_ome else None
    binary = None if root is None else root.find("{*}BinaryOnly")
    if binary is not None:
        other = binary.get("MetadataFile", "another file")
        there = (path.parent / other).is_file()
        msg = (
            f"{path.name} is a part of an OME-TIFF that {other} describes"
            f"{', which is not beside it: copy it, too, and' if not there else ':'} read that one."
        )
        raise ValueError(msg)


def _check_chain(tiff: tifffile.TiffFile, path: Path) -> None:
    """Raise when the last page that is there names a next one, or a page smaller ones, behind the end of the file."""
    size = tiff.filehandle.size
    beyond = [
        int(offset) for page in tiff.pages for offset in getattr(page.keyframe, "subifds", None) or () if offset >= size
    ]
    last = tiff.pages[-1]
    form = tiff.tiff
    tiff.filehandle.seek(last.offset)
    (n_tags,) = struct.unpack(form.tagnoformat, tiff.filehandle.read(form.tagnosize))
    tiff.filehandle.seek(last.offset + form.tagnosize + n_tags * form.tagsize)
    (following,) = struct.unpack(form.offsetformat, tiff.filehandle.read(form.offsetsize))
    if following >= size:
        beyond.append(following)
    if beyond:
        raise ValueError(_truncated(path, size, max(beyond)))


def _check_page(page: Any, path: Path) -> None:
    starts, lengths = np.asarray(page.dataoffsets, np.int64), np.asarray(page.databytecounts, np.int64)
    if not len(starts) == len(lengths) >= math.prod(page.chunked):
        msg = f"{path.name} is damaged: it does not say where all of its pixels are. {AGAIN}"
        raise ValueError(msg)
    size, end = page.parent.filehandle.size, int((starts + lengths).max(initial=0))
    if end > size:
        raise ValueError(_truncated(Path(page.parent.filehandle.path), size, end))


def _truncated(path: Path, size: int, end: int) -> str:
    return f"{path.name} is truncated: it has {size} bytes and should have at least {end}. {AGAIN}"


def _missing_files(tiff: tifffile.TiffFile, path: Path) -> str:
    root = _parse(tiff.ome_metadata)
    named = [] if root is None else [one.get("FileName", "") for one in root.iterfind(".//{*}TiffData/{*}UUID")]
    missing = [name for name in dict.fromkeys(named) if name and not (path.parent / name).is_file()]
    what = f"files of this OME-TIFF that are not beside it: {', '.join(missing)}" if missing else "no page of the file"
    return f"{path.name} is not whole: some of its pixels are in {what}. Copy all of its files into one folder."


def _parse(xml: str | None) -> ElementTree.Element | None:
    try:
        return None if xml is None else ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
