"""A run and its folder: steps that are timed and kept, so that a run that was killed goes on after the last of them."""

from __future__ import annotations

import json
import logging
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pandas as pd
from anndata import AnnData

from stdistill._runs.results import load_results, save_results
from stdistill._support.files import describe_changes, replacing
from stdistill._support.locks import hold
from stdistill._support.ranks import is_first_process
from stdistill._support.reading import check_entry, read_json, reading
from stdistill._support.warn import warn

logger = logging.getLogger("stdistill")

T = TypeVar("T")

MANIFEST = "manifest.json"
CELLS_FILE, NICHES_FILE = "cells.h5ad", "niches.h5ad"
"""Table of a run: with all that is known of the cells, or without counts and features."""
NO_MANIFEST = "is no manifest of a run"
RUN_AFRESH = "name another folder for the results, or remove this one to run it afresh"
ENTRIES: dict[str, type] = {
    "command": str,
    "parameters": dict,
    "input": dict,
    "versions": dict,
    "started": str,
    "steps": list,
}
"""Of a manifest, without which a run does not go on."""
LOCK = ".lock"
STEPS = "steps"
CHECKPOINTS = "checkpoints"
PACKAGES = (
    "stdistill",
    "anndata",
    "igraph",
    "leidenalg",
    "lightning",
    "numpy",
    "scanpy",
    "scikit-learn",
    "scvi-tools",
    "spatialdata",
    "timm",
    "torch",
)


class Run:
    """The steps of a command, in a folder with ``manifest.json``, or, without a folder, in memory only.

    As a context it keeps other processes out of the folder.

    Parameters
    ----------
    folder
        New or empty folder, or that of a run to go on with.
    command
        What is run.
    parameters
        All that the steps depend on; those of the run to go on with must be the same.
    asked
        What the results of the steps are used for, such as the annotations they are compared with. It may change.
    """

    def __init__(
        self,
        folder: str | Path | None,
        *,
        command: str,
        parameters: Mapping[str, Any],
        asked: Mapping[str, Any] | None = None,
    ) -> None:
        self.kept = None if folder is None else Path(folder).expanduser()
        """Where finished steps are read from."""
        self.folder = self.kept if is_first_process() else None
        """Where to write; of several processes of one run the first alone does."""
        self._lock: ExitStack | None = None
        new: dict[str, Any] = {
            "command": command,
            "parameters": dict(parameters),
            "asked": dict(asked or {}),
            "input": {},
            "versions": find_versions(),
            "device": _device(),
            "started": now(),
            "steps": [],
        }
        self._manifest: dict[str, Any] = json.loads(json.dumps(new, default=str))  # as it is read again
        found = None if self.kept is None else _read_manifest(self.kept)
        if found is not None:
            check_same(found, self._manifest, self.kept)
            changes = describe_changes(found["versions"], self._manifest["versions"])
            if changes:
                warn(f"The run in {self.kept} goes on with other versions ({changes}).")
            self._manifest |= {name: found[name] for name in ("input", "started", "steps")}

    def __enter__(self) -> Self:
        if self.folder is not None and self.folder.exists():
            self._hold()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    @property
    def steps(self) -> pd.DataFrame:
        """One row per finished step: ``step``, ``seconds``, ``ended``."""
        return pd.DataFrame(self._manifest["steps"], columns=["step", "seconds", "ended"])

    def check_input(self, facts: Mapping[str, Any]) -> None:
        """Keep what the input is told by, or raise when it was told by something else before."""
        known = self._manifest["input"]
        changes = describe_changes({**facts, **known}, {**known, **facts})
        if changes:
            msg = (
                f"The folder {self.kept} is of a run on another slide or with other features ({changes}). Name "
                "another folder for the results, or remove this one."
            )
            raise ValueError(msg)
        self._manifest["input"] = {**known, **facts}
        self._write()

    def step(self, name: str, make: Callable[[], T], load: Callable[[], T] | None = None) -> T:
        """Make the step, or `load` it when it was finished before; named for what it writes.

        Without `load` a step is made again, which suits those that are quick or find their own results; the time that
        is kept is that of the first.
        """
        finished = name in set(self.steps["step"])
        if finished and load is not None:
            logger.info("%s: finished before.", name)
            return load()
        logger.info("%s …", name)
        start = time.monotonic()
        made = make()
        if not finished:
            seconds = round(time.monotonic() - start, 2)
            self._manifest["steps"].append({"step": name, "seconds": seconds, "ended": now()})
            self._write()
        return made

    def write_step(
        self, adata: AnnData, key_added: str, make: Callable[[Path | None], object], *, makes: Path | None = None
    ) -> None:
        """Make a step that writes to the table, and keep what it writes under the key or prefix `key_added`.

        `make` is called with a folder for its checkpoints, if there is a folder at all. What it `makes` besides must be
        there for the step to be finished.
        """
        self.write_tables(key_added, {key_added: (adata, key_added)}, make, makes=makes)

    def write_tables(
        self,
        name: str,
        tables: Mapping[str, tuple[AnnData, str]],
        make: Callable[[Path | None], object],
        *,
        makes: Path | None = None,
    ) -> None:
        """Make a step that writes to several tables, each under a key of its own and kept in a file of that name."""
        if self.kept is None:
            self.step(name, lambda: make(None))
            return
        checkpoints = self.kept / CHECKPOINTS / name
        results = {self.kept / STEPS / f"{file}.h5ad": written for file, written in tables.items()}

        def make_and_save() -> None:
            make(checkpoints)
            if self.folder is None:
                return
            for path, (adata, key_added) in results.items():
                with replacing(path) as new:
                    save_results(adata, key_added, new)
            shutil.rmtree(checkpoints, ignore_errors=True)
            with suppress(OSError):  # of another step
                checkpoints.parent.rmdir()

        def load() -> None:
            for path, (adata, _) in results.items():
                load_results(adata, path)

        there = all(path.is_file() for path in results) and (makes is None or makes.exists())
        self.step(name, make_and_save, load if there else None)

    def _hold(self) -> None:
        """Keep other processes out of the folder."""
        if self.folder is not None and self._lock is None:
            busy = f"Another process writes to the folder {self.folder}: wait for it, or name another one."
            self._lock = ExitStack()
            self._lock.enter_context(hold(self.folder / LOCK, busy))

    def _write(self) -> None:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._hold()
            with replacing(self.folder / MANIFEST) as new:
                new.write_text(json.dumps(self._manifest, indent=2, ensure_ascii=False), encoding="utf-8")


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of an earlier run; `None` when the folder is new or empty."""
    path = folder / MANIFEST
    if path.is_file():
        found = read_manifest(path)
        if set(ENTRIES) <= set(found):
            return found
    if folder.exists() and (not folder.is_dir() or any(not each.name.startswith(".") for each in folder.iterdir())):
        msg = f"{folder} exists and holds no {MANIFEST} of a run: name a folder that is new or empty."
        raise FileExistsError(msg)
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a run, whose entries are checked as far as they are there.

    Raises
    ------
    ValueError
        When it is none, or was changed.
    """
    found = read_json(path, NO_MANIFEST, advice=RUN_AFRESH)
    with reading(path, NO_MANIFEST, advice=RUN_AFRESH):
        for name, kind in ENTRIES.items():
            check_entry({name: kind(), **found}, name, kind)
        check_entry({"stdistill": "", **found.get("versions", {})}, "stdistill", str)
        for step in found.get("steps", []):
            check_entry(step, "step", str)
            check_entry(step, "seconds", (int, float))
            check_entry(step, "ended", str)
    return found


def find_versions() -> dict[str, str]:
    """List the versions of what results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def check_same(found: Mapping[str, Any], new: Mapping[str, Any], folder: Path | None) -> None:
    """Raise unless the earlier run was of the same command with the same parameters, by the same stdistill."""
    before, now = (
        {"command": each["command"], "stdistill": each["versions"].get("stdistill"), **each["parameters"]}
        for each in (found, new)
    )
    changes = describe_changes(before, now)
    if changes:
        msg = (
            f"The folder {folder} is of a run with other parameters ({changes}). Run it with those, name another "
            "folder for the results, or remove this one."
        )
        raise ValueError(msg)


def now() -> str:
    """Return the time as manifests have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _device() -> str:
    import torch

    return f"cuda: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "cpu"
