"""Files that users hand in: one way to say which of them cannot be read, what was expected, and what to do."""

from __future__ import annotations

import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

NOT_AS_EXPECTED = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What libraries raise when a file is not what they expect."""
UNREADABLE = (OSError, *NOT_AS_EXPECTED)
"""Or raise as the system does."""

HEAD_BYTES = 1024
GZIP = b"\x1f\x8b"
ZIP = b"PK"
PARQUET = b"PAR1"
HDF5 = b"\x89HDF\r\n\x1a\n"
KINDS = {
    GZIP: "compressed by gzip",
    ZIP: "a zip archive",
    PARQUET: "a Parquet file",
    HDF5: "an HDF5 file",
    b"II*\0": "a TIFF",
    b"II+\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"MM\0+": "a TIFF",
    b"\x89PNG": "a PNG",
    b"\xff\xd8\xff": "a JPEG",
    b"%PDF": "a PDF",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x93NUMPY": "an array of numpy",
}
"""Kinds of files by their first bytes."""
COPY_AGAIN = "copy it again"
NO_H5AD = "is no h5ad of an AnnData"


class Fault(NamedTuple):
    """What is wrong with a file, and what to do about it."""

    what: str
    advice: str


@contextmanager
def reading(path: Path, complaint: str, *, missing: str = "file", advice: str = COPY_AGAIN) -> Iterator[None]:
    """Say which file cannot be read, why, and what to do, in place of a library's error inside the block.

    The block holds nothing but what reads the file: an error of ours, raised inside, would be taken for a library's.

    Parameters
    ----------
    path
        The file.
    complaint
        What to say of a file that is not as expected, such as ``"is no table of cells in Parquet"``.
    missing
        What to call a file that is not there.
    advice
        What to do where the file itself does not tell.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    OSError
        When the system does not let it be read.
    ValueError
        When it is not as expected.
    """
    check_is_file(path, missing)
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # some libraries raise what is nothing but an Exception, such as anndata
        if isinstance(error, OSError) and error.errno is not None:
            msg = f"{path} cannot be read ({error.strerror}): check the disk and your permissions."
            raise OSError(error.errno, msg) from error
        fault = find_fault(path)
        detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
        why = detail if fault is None else fault.what if fault.advice else f"{fault.what}; {detail}"
        own = "" if fault is None or fault.advice == COPY_AGAIN else fault.advice
        msg = f"{path} {complaint} ({why}): {own or advice}."
        raise ValueError(msg) from error


def read_json(
    path: Path,
    complaint: str,
    *,
    entries: Mapping[str, type | tuple[type, ...]] | None = None,
    advice: str = COPY_AGAIN,
) -> dict[str, Any]:
    """Read an object of JSON that has at least these entries, of these types.

    The other parameters, and the errors, are those of `reading`.
    """
    with reading(path, complaint, advice=advice):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            msg = f"it holds a {type(found).__name__}, expected an object with names"
            raise ValueError(msg)
        for name, kinds in (entries or {}).items():
            check_entry(found, name, kinds)
    return found


def check_entry(found: Mapping[str, Any], name: str, kinds: type | tuple[type, ...]) -> None:
    """Raise a `ValueError` unless there is an entry of this name and of one of these types; `bool` is no `int`."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    value = found.get(name)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in kinds)
        shown = f"is {value!r:.80} ({type(value).__name__})" if name in found else "is missing"
        msg = f"its {name!r} {shown}, expected {expected}"
        raise ValueError(msg)


def check_is_file(path: Path, missing: str) -> None:
    """Raise a `FileNotFoundError` that names the file unless it is there."""
    if path.is_dir():
        msg = f"{path} is a folder; expected a {missing}."
        raise FileNotFoundError(msg)
    if not path.is_file():
        msg = f"There is no {missing} {path}."
        raise FileNotFoundError(msg)


def find_fault(path: Path) -> Fault | None:
    """Look at a file that could not be read; `None` when its bytes do not tell why.

    The advice is empty where the bytes tell only what kind of file it is.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        size = file.seek(0, 2)
        file.seek(max(0, size - 4))
        tail = file.read(4)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not size:
        return Fault("it is empty", COPY_AGAIN)
    if not head.strip(b"\0"):
        return Fault("it holds nothing but zeros, as a copy that was broken off leaves", COPY_AGAIN)
    if text.startswith(b"version https://git-lfs"):
        return Fault("it is a pointer of git-lfs, not the file itself", "fetch the file with 'git lfs pull'")
    if text.startswith((b"<!doctype html", b"<html")):
        what = "it is an HTML page, such as a login or an error, saved in the place of the file"
        return Fault(what, "download it again, logged in where that is needed")
    if (head.startswith(PARQUET) and tail != PARQUET) or (head.startswith(ZIP) and not zipfile.is_zipfile(path)):
        return Fault("it ends too early", COPY_AGAIN)
    kind = next((name for signature, name in KINDS.items() if head.startswith(signature)), None)
    return None if kind is None else Fault(f"it is {kind}", "")


def find_visible(folder: Path, pattern: str) -> list[Path]:
    """List the files and folders of a pattern, but those that are hidden: macOS leaves a ``._`` beside each file."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
