"""Text and tables that users hand in, whatever their encoding, compression and separator."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pandas as pd

from stdistill._support.reading import COPY_AGAIN, GZIP, ZIP, reading
from stdistill._support.warn import warn

BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before that of UTF-16, which it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WINDOWS = "cp1252"
SEPARATORS = ",;\t|"
BLOCK = 1 << 20
HEAD = 1000
"""Bytes in which the zeros of UTF-16 are counted."""
MAX_RATIO, MIN_BOMB = 200, 1 << 28
"""What unpacks to so many times its size, and to so many bytes, is no text: tables come to 3 to 20 times of it."""


@contextmanager
def open_text(
    path: Path, complaint: str, *, missing: str = "file", advice: str = COPY_AGAIN
) -> Iterator[io.TextIOBase]:
    """Open a text file of any usual encoding, also inside of a gzip or of a zip with one file.

    The parameters, and what becomes of errors inside the block, are those of
    :func:`stdistill._support.reading.reading`.
    """
    with reading(path, complaint, missing=missing, advice=advice):
        encoding = _find_encoding(path)
        with _open_unpacked(path) as file, io.TextIOWrapper(file, encoding=encoding) as text:
            yield text
    if encoding == WINDOWS:
        warn(
            f"{path} is not encoded in UTF-8 and was read as Windows-1252: look whether names with letters beyond "
            "A to Z are right, or save it as UTF-8."
        )


def read_csv(
    path: Path, complaint: str, *, missing: str = "file", advice: str = COPY_AGAIN, **options: Any
) -> pd.DataFrame:
    """Read a table with a header, after lines of comments with ``#``; the header tells the separator.

    `options` are those of :func:`pandas.read_csv`.
    """
    with open_text(path, complaint, missing=missing, advice=advice) as text:
        header = ""
        while not header:
            line = text.readline()
            if not line:
                break
            if line.startswith("#") or not line.strip() or line.startswith("sep="):  # the last is Excel's
                continue
            header = line
        separator = max(SEPARATORS, key=header.count)
        names = pd.read_csv(io.StringIO(header), sep=separator, skipinitialspace=True).columns
        frame: pd.DataFrame = pd.read_csv(
            text, sep=separator, names=list(names), header=None, skipinitialspace=True, **options
        )
    frame.columns = frame.columns.str.strip()
    return frame


def named_as(rows: pd.DataFrame, known: Sequence[str], path: Path) -> pd.DataFrame:
    """Give columns that differ from a known name by capitals alone that name; raise where two would have it."""
    by_text = {name.casefold(): name for name in known}
    names = [by_text.get(str(name).casefold(), name) for name in rows.columns]
    for name in known:
        alike = [found for found, new in zip(rows.columns, names, strict=True) if new == name]
        if len(alike) > 1:
            msg = f"{path.name} has the columns {alike}, of which one is {name}. Rename the others in its first line."
            raise ValueError(msg)
    return rows.set_axis(names, axis=1)


def read_comments(path: Path, complaint: str) -> list[str]:
    """Return the lines with ``#`` that a text file begins with."""
    lines = []
    with open_text(path, complaint) as text:
        while (line := text.readline()).startswith("#"):
            lines.append(line.strip())
    return lines


def list_members(archive: zipfile.ZipFile) -> list[str]:
    """List the files in a zip, but those that are hidden."""
    return [
        name
        for name in archive.namelist()
        if not name.endswith("/") and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    ]


@contextmanager
def _open_unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, inside of its gzip or its zip; which of them it is, its bytes tell, not its name."""
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(0)
        if head == GZIP:
            with gzip.open(file) as unpacked:
                yield unpacked  # type: ignore[misc]
        elif head == ZIP:
            with zipfile.ZipFile(file) as archive:
                members = list_members(archive)
                if len(members) != 1:
                    msg = f"its archive should hold one file; it holds {members[:5] or 'none'}"
                    raise ValueError(msg)
                with archive.open(members[0]) as unpacked:
                    yield unpacked
        else:
            yield file


def _find_encoding(path: Path) -> str:
    """Tell UTF-8, UTF-16 and Windows-1252 apart; raise for what is no text, or would fill the memory once unpacked."""
    most, size = max(MIN_BOMB, MAX_RATIO * path.stat().st_size), 0
    with _open_unpacked(path) as file:
        block = file.read(BLOCK)
        encoding = _told_by_head(block)
        decoder = codecs.getincrementaldecoder("utf-8")()
        while block:
            size += len(block)
            if size > most:
                msg = f"it unpacks to more than {MAX_RATIO} times its size, as no table or text does"
                raise ValueError(msg)
            following = file.read(BLOCK)
            if encoding is None:
                try:
                    decoder.decode(block, final=not following)
                except UnicodeDecodeError:
                    encoding = WINDOWS
            block = following
    return encoding or "utf-8"


def _told_by_head(head: bytes) -> str | None:
    """Return the encoding that the first bytes name, or show by their zeros."""
    for bom, name in BOMS.items():
        if head.startswith(bom):
            return name
    zeros = [head[start:HEAD:2].count(0) for start in (0, 1)]
    if not any(zeros):
        return None
    if min(zeros) == 0 and max(zeros) > min(len(head), HEAD) / 4:
        return "utf-16-be" if zeros[0] else "utf-16-le"
    msg = "it is no text"
    raise ValueError(msg)
