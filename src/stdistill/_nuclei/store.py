"""Nuclei on disk, tile by tile: a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import shapely

from stdistill._nuclei.nuclei import Nuclei
from stdistill._support.files import describe_changes, replacing
from stdistill._support.locks import hold
from stdistill._support.ranks import is_first_process
from stdistill._support.reading import read_json, reading

FINGERPRINT = "fingerprint.json"
POLYGONS = "polygons"
NO_NUCLEI = "is not what a store of nuclei has"
AFRESH = "give resume=False to find the nuclei afresh"


class NucleusStore:
    """A folder with the nuclei of each finished tile, and ``fingerprint.json``: what they were found in, and how.

    Parameters
    ----------
    folder
        The folder, as :meth:`opened` left it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, fingerprint: Mapping[str, Any], *, resume: bool) -> Iterator[Self]:
        """Create the folder, or find it as a run with the same fingerprint left it, and keep other processes out.

        Of the processes of one run each but the first waits, and finds what that one has written.

        Raises
        ------
        BlockingIOError
            When another process writes to it.
        FileExistsError
            When it holds something else.
        ValueError
            When it is of a run with another fingerprint and is to be resumed.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        busy = f"Another process writes to the store {folder}: wait for it, or name another folder with store=."
        with hold(folder.with_name(f".{folder.name}.lock"), busy, wait=not is_first_process()):
            if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
                _check(folder, fingerprint, resume=resume)
            folder.mkdir(exist_ok=True)
            with replacing(folder / FINGERPRINT) as new:
                new.write_text(json.dumps(fingerprint, indent=2))
            yield cls(folder)

    def finished(self) -> set[int]:
        """Numbers of the tiles that are done."""
        return {int(path.stem) for path in self.folder.glob("[0-9]*.npz")}

    def write(self, tile: int, nuclei: Nuclei) -> None:
        """Write the nuclei of a tile, all or none."""
        outlines, places = shapely.get_coordinates(nuclei.polygons, return_index=True)
        columns = {field.name: getattr(nuclei, field.name) for field in fields(Nuclei) if field.name != POLYGONS}
        with replacing(self._path(tile)) as new, new.open("wb") as file:
            np.savez(file, outlines=outlines, places=places, **columns)

    def read(self, tile: int) -> Nuclei:
        """Read the nuclei of a tile that is done."""
        path = self._path(tile)
        with reading(path, NO_NUCLEI, advice=AFRESH), np.load(path) as found:
            try:
                columns = {field.name: found[field.name] for field in fields(Nuclei) if field.name != POLYGONS}
                rings = shapely.linearrings(found["outlines"], indices=found["places"])
            except MemoryError as error:  # a tile has a few kilobytes: its header is damaged
                raise ValueError(str(error)) from error
            lengths = {len(rings), *map(len, columns.values())}
            if len(lengths) > 1:
                msg = f"its columns have {sorted(lengths)} rows"
                raise ValueError(msg)
        return Nuclei(polygons=shapely.polygons(rings), **columns)

    def _path(self, tile: int) -> Path:
        return self.folder / f"{tile:06d}.npz"


def _check(folder: Path, fingerprint: Mapping[str, Any], *, resume: bool) -> None:
    """Raise unless a folder can be gone on with; empty it when it is not to be."""
    path = folder / FINGERPRINT
    if not path.is_file():
        msg = f"store={str(folder)!r} exists and is no store of nuclei: name a folder that is new or empty."
        raise FileExistsError(msg)
    if not resume:
        shutil.rmtree(folder)
        return
    before = read_json(path, NO_NUCLEI, advice=AFRESH)
    changes = describe_changes(before, json.loads(json.dumps(fingerprint)))
    if changes:
        msg = (
            f"The store {folder} is of another run ({changes}). Name another folder with store=, or give resume=False "
            "to delete it and find the nuclei afresh."
        )
        raise ValueError(msg)
