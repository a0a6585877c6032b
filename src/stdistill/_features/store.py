"""Features on disk, as they come: a run that was killed goes on where it stopped."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from dask.utils import format_bytes
from filelock import FileLock, Timeout

from stdistill._support.files import describe_changes
from stdistill._support.locks import hold
from stdistill._support.ranks import is_first_process
from stdistill._support.reading import check_entry, read_json, reading
from stdistill._support.warn import warn

FEATURES = "features.npy"
CELL_IDS = "cell_ids.txt"
FINGERPRINT = "fingerprint.json"
FINISHED = "finished"

Fingerprint = Mapping[str, Any]

MADE_WITH = "made_with"
NOT_COMPARED = {MADE_WITH, "device", "stdistill"}
"""Where features were computed makes them no others; the last two are what earlier versions called it."""
WINDOWS = "windows"
"""In which order they are computed, which is the same for those that are to go on; earlier versions did not say."""
UNLIKE_EARLIER = {"image", "cells", WINDOWS}
"""What stores of such versions cannot be compared by."""
NO_STORE = "is not what a store of features has"
AFRESH = "give resume=False to compute the features afresh"
CODE = 1
"""Version of our own part in the features: to be raised when crops, or those of "texture", come out different."""


class FeatureStore:
    """A folder with one row of float16 features per cell.

    ``features.npy``
        The matrix (n, d), in the order of ``cell_ids.txt``.
    ``cell_ids.txt``
        One id a line.
    ``fingerprint.json``
        What the features were computed from, by which they are told from others; and, as ``made_with``, on what.
    ``finished``
        One byte for each window of the slide, 1 when all of its rows are written.

    Parameters
    ----------
    folder
        The folder, as :func:`prepare_store` left it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        matrix = self._map()
        self.shape = matrix.shape
        self._offset = matrix.offset

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the features were computed from, and on what."""
        return _read_fingerprint(self.folder)

    def unfinished(self) -> npt.NDArray[np.int64]:
        """Numbers of the windows that are still to be computed."""
        return np.flatnonzero(np.fromfile(self.folder / FINISHED, dtype=np.uint8) == 0)

    def write(self, window: int, start: int, rows: npt.NDArray[np.float16]) -> None:
        """Write the rows of a window from `start` on, and mark it finished.

        Files are written, not mapped: a full disk is then an error, not a crash.
        """
        self._check_whole()
        self._write_at(FEATURES, self._offset + start * self.shape[1] * rows.itemsize, rows.tobytes())
        self._write_at(FINISHED, window, b"\1")

    def features(self, cell_ids: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
        """Map the matrix; its rows are in the order of these ids, of which it has the same."""
        matrix = self._map()
        stored, wanted = self.cell_ids, cell_ids.astype(str)
        if np.array_equal(stored, wanted):
            return matrix
        names = pd.Index(stored)
        if not names.is_unique:
            msg = (
                f"The store {self.folder} has its cells in another order, and {names.duplicated().sum()} of their "
                "names twice: it cannot be told which is which. Give resume=False to compute the features afresh."
            )
            raise ValueError(msg)
        return matrix[names.get_indexer(pd.Index(wanted))]

    @property
    def cell_ids(self) -> npt.NDArray[np.str_]:
        """Ids of the rows."""
        path = self.folder / CELL_IDS
        with reading(path, NO_STORE, advice=AFRESH):
            ids = path.read_text(encoding="utf-8").split("\n")[:-1]
            if len(ids) != self.shape[0]:
                msg = f"it has {len(ids)} ids, and there are features of {self.shape[0]} cells"
                raise ValueError(msg)
        return np.array(ids, dtype=np.str_)

    def _map(self) -> np.memmap[Any, np.dtype[np.float16]]:
        """Map the matrix, checked to be one of features."""
        path = self.folder / FEATURES
        with reading(path, NO_STORE, advice=AFRESH):
            matrix: np.memmap[Any, np.dtype[np.float16]] = np.load(path, mmap_mode="r")
            if matrix.dtype != np.float16 or matrix.ndim != 2 or not matrix.flags.c_contiguous:
                msg = f"it holds {matrix.dtype} of the shape {matrix.shape}, expected float16 (cells, features) by rows"
                raise ValueError(msg)
        return matrix

    def _check_whole(self) -> None:
        """Raise when somebody has deleted the matrix or cut it off: written on, it would have a hole of zeros."""
        path = self.folder / FEATURES
        size = self._offset + self.shape[0] * self.shape[1] * np.dtype(np.float16).itemsize
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            what = "is gone" if found is None else f"has {found:,} bytes in place of {size:,}"
            msg = f"{path} {what}: something changed the store while features were written to it: {AFRESH}."
            raise OSError(msg)

    def _write_at(self, name: str, position: int, content: bytes) -> None:
        try:
            with (self.folder / name).open("r+b", buffering=0) as file:
                file.seek(position)
                left = memoryview(content)
                while left:
                    left = left[file.write(left) :]
        except OSError as error:
            msg = (
                f"Could not write to the store {self.folder}: {error.strerror}. What was written is kept: make room, "
                "and the next call goes on. store= names another folder."
            )
            raise OSError(error.errno, msg) from error


@contextmanager
def reserve_folder(parent: Path, name: str, *, argument: str = "store") -> Iterator[Path]:
    """Yield ``name-1``, ``name-2``, … in `parent`: one that a killed run left, else the first that no run has.

    A lock beside it tells which are taken. The system frees that of a process that dies; the empty file stays, because
    others may have it open. With `argument` the user names another `parent`.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{parent}, the cache for features, cannot be made ({error.strerror}): name a folder with {argument}=."
        raise OSError(error.errno, msg) from error
    left = sorted(folder for folder in parent.glob(f"{name}-*") if folder.is_dir())
    new = (parent / f"{name}-{number}" for number in itertools.count(1))
    for folder in itertools.chain(left, new):
        try:
            lock = FileLock(f"{folder}.lock").acquire(blocking=False)
            break
        except Timeout:
            continue
        except OSError as error:  # a cache that cannot be written to; and some network file systems have no locks
            msg = f"Files cannot be locked in {parent} ({error}). Name a folder for the features with {argument}=."
            raise OSError(error.errno, msg) from error
    with lock:
        yield folder


@contextmanager
def locked_store(folder: Path) -> Iterator[Path]:
    """Hold a store that the user named: two runs that write to it at once would spoil it.

    Of the processes of one run the first holds it for all.
    """
    if not is_first_process():
        yield folder
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    busy = f"Another process writes to the store {folder}: wait for it, or name another folder with store=."
    with hold(folder.with_name(f".{folder.name}.lock"), busy):
        yield folder


def find_finished(folder: Path, fingerprint: Fingerprint, cell_ids: npt.NDArray[Any]) -> FeatureStore | None:
    """Return a complete store of these features of these cells; `None` when something is still to be computed."""
    if not (folder / FINGERPRINT).is_file() or not is_finished(folder):
        return None
    store = FeatureStore(folder)
    if WINDOWS in store.fingerprint:
        return None if describe_difference(folder, fingerprint, but={WINDOWS}) else store
    if describe_difference(folder, fingerprint, but=UNLIKE_EARLIER) or set(store.cell_ids) != set(map(str, cell_ids)):
        return None
    warn(
        f"The features in {folder} were written by an earlier version. Their cells have the names of these, and "
        "encoder and crops are the same; whether the image is the same cannot be told."
    )
    return store


def prepare_store(
    folder: Path, fingerprint: Fingerprint, cell_ids: npt.NDArray[Any], dim: int, n_windows: int, *, resume: bool
) -> None:
    """Create the folder, or find it as a run with the same fingerprint left it; nothing is deleted with `resume`.

    Raises
    ------
    FileExistsError
        When the folder holds something else.
    ValueError
        When it is of a run with another fingerprint.
    """
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        if not (folder / FINGERPRINT).is_file():
            msg = f"store={str(folder)!r} exists and is no store of features: name a folder that is new or empty."
            raise FileExistsError(msg)
        if resume:
            changes = describe_difference(folder, fingerprint)
            if not changes:
                _warn_of_another_device(_read_fingerprint(folder), fingerprint)
                return
            msg = (
                f"The store {folder} is of another run ({changes}). Name another folder with store=, or give "
                "resume=False to delete it and compute the features afresh."
            )
            raise ValueError(msg)
        shutil.rmtree(folder)
    _create(folder, fingerprint, cell_ids, dim, n_windows)


def _warn_of_another_device(before: Fingerprint, now: Fingerprint) -> None:
    """Features are the same but for rounding; that of half precision on a GPU is coarser."""
    devices = [found.get(MADE_WITH, found).get("device") for found in (before, now)]
    if devices[0] != devices[1]:
        warn(f"Features that were begun on {devices[0]} go on on {devices[1]}, whose rounding is another.")


def is_finished(folder: Path) -> bool:
    """Whether there is a store with all of its features."""
    return (folder / FINISHED).is_file() and not len(FeatureStore(folder).unfinished())


def describe_difference(folder: Path, fingerprint: Fingerprint, *, but: Set[str] = frozenset()) -> str:
    """Say in what the features of a store were computed from something else, `but` some; nothing when they were not."""
    before, now = (
        {name: value for name, value in _comparable(one).items() if name not in but}
        for one in (_read_fingerprint(folder), fingerprint)
    )
    for one, other in zip(before["encoders"], now["encoders"], strict=False):
        if None in (one["revision"], other["revision"]):  # weights that do not say which they are
            one["revision"] = other["revision"] = None
    return describe_changes(before, now)


def _comparable(fingerprint: Fingerprint) -> dict[str, Any]:
    kept = {name: value for name, value in fingerprint.items() if name not in NOT_COMPARED}
    return {"code": 1, **kept, "encoders": [{"revision": None, **one} for one in kept.get("encoders", [])]}


def _read_fingerprint(folder: Path) -> dict[str, Any]:
    path = folder / FINGERPRINT
    found = read_json(path, NO_STORE, advice=AFRESH)
    with reading(path, NO_STORE, advice=AFRESH):
        check_entry({"encoders": [], **found}, "encoders", list)
        for encoder in found.get("encoders", []):
            check_entry({"revision": None, **encoder}, "revision", (str, type(None)))
    return found


def _create(folder: Path, fingerprint: Fingerprint, cell_ids: npt.NDArray[Any], dim: int, n_windows: int) -> None:
    """Write a folder beside it and rename it: a store is whole, or not there."""
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    size = len(cell_ids) * dim * 2
    free = shutil.disk_usage(new).free
    try:
        if size > free:
            msg = (
                f"The features take {format_bytes(size)}, and {folder.parent} has {format_bytes(free)} left: make "
                "room, or name a folder on another disk with store=."
            )
            raise OSError(msg)
        header = np.lib.format.header_data_from_array_1_0(np.empty((0, dim), np.float16))
        with (new / FEATURES).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header | {"shape": (len(cell_ids), dim)})
            file.truncate(file.tell() + size)
        (new / FINISHED).write_bytes(bytes(n_windows))
        (new / CELL_IDS).write_text("".join(f"{cell}\n" for cell in cell_ids), encoding="utf-8")
        (new / FINGERPRINT).write_text(json.dumps(fingerprint, indent=2))
        if folder.is_dir():
            folder.rmdir()
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
