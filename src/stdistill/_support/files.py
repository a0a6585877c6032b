"""Files and folders that appear whole or not at all, and what tells their contents apart."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PART_BYTES = 65_536
"""Of each part of a large file that is hashed."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write a file to; what was written appears under `path` when all of it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".new-{path.name}")  # what a kill leaves is replaced by the next run
    try:
        with _naming_when_full(path):
            yield new
            os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder to write to; it appears as `folder`, in the place of what was there, when all is written.

    When it cannot be renamed, what was there is put back.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))  # on the same disk
    new, old = scratch / "new", scratch / "old"
    new.mkdir()
    try:
        with _naming_when_full(folder):
            yield new
            if folder.exists():
                os.replace(folder, old)
            os.replace(new, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _naming_when_full(path: Path) -> Iterator[None]:
    """Say what could not be written, since the system names no file when its disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        msg = f"{path} could not be written: {error.strerror}. What was there before stays; make room, and try again."
        raise OSError(error.errno, msg) from error


def digest(*parts: bytes | str | npt.NDArray[Any]) -> str:
    """Hash bytes, text and the contents of arrays, one after the other: SHA-256 as 64 hexadecimal digits."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)  # not a copy
        else:
            found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()


def digest_file(path: Path) -> str:
    """Hash a file as `digest` does its bytes, without reading it into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in which entries two fingerprints differ; nothing when they are the same."""
    return ", ".join(
        f"{key}: {before.get(key)!r}, now {now.get(key)!r}"
        for key in dict.fromkeys([*now, *before])
        if before.get(key) != now.get(key)
    )


def digest_parts(path: Path) -> str:
    """Hash the size of a file and its beginning, middle and end: what tells large files apart without reading them."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for at in (0, size // 2, max(0, size - PART_BYTES)):
            file.seek(at)
            found.update(file.read(PART_BYTES))
    return found.hexdigest()
