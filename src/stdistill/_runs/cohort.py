"""The folder of a cohort: which slides it has, what became of each, and where their results are."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pandas as pd

from stdistill._formats.text import read_csv
from stdistill._runs.folder import NICHES_FILE, check_same, find_versions
from stdistill._support.checks import some
from stdistill._support.files import replacing
from stdistill._support.locks import Lease, lease, wait_for_lease
from stdistill._support.reading import check_entry, read_json, reading
from stdistill._support.warn import warn

MANIFEST, SLIDES_CSV, STATUS_CSV = "cohort.json", "slides.csv", "status.csv"
STATUS, LOCKS, WORK, SLIDES = "status", "locks", "work", "slides"
DONE, FAILED, WAITING = "done", "failed", "waiting"
ID, SLIDE = "slide_id", "slide"
COLUMNS = ("status", "reason", "n_cells", "n_niches", "verdict", "seconds")
TEXT = (ID, SLIDE, "nuclei", "group", "patient")
"""Columns that are text even where they look like numbers; those of users' own are what they look like."""
DOUBLE_SUFFIX = re.compile(r"\.ome$", re.IGNORECASE)
UNSAFE = re.compile(r"[^\w.-]+")
NO_COHORT = "is no record of a cohort"
MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "<NA>"]
"""What R, Excel and pandas write for what is not known. "None" is a group, such as of those who were not treated."""
NO_SLIDES = "is no table of a cohort's slides (slide_id, slide)"
NO_STATUS = "is no record of a slide"
ELSEWHERE = "name another folder for the cohort, or put back the file as it was"
TRY_AGAIN = "remove it, and the slide is tried again"
SAID = {
    "bytes": "its file has another size",
    "mpp": "another mpp",
    "nuclei": "other nuclei",
    "nuclei_bytes": "the file of its nuclei has another size",
}
"""What may be another than what a slide was mapped from."""
SIZES = ("bytes", "nuclei_bytes")
Nothing = type(None)
STATUS_ENTRIES: dict[str, tuple[type, ...]] = {
    "status": (str,),
    "reason": (str, Nothing),
    "verdict": (str, Nothing),
    "n_cells": (int, Nothing),
    "n_niches": (int, Nothing),
    "bytes": (int, Nothing),
    "mpp": (int, float, str, Nothing),
    "nuclei": (str, Nothing),
    "nuclei_bytes": (int, Nothing),
    "seconds": (dict, Nothing),
}


class CohortFolder:
    """Slides, each in a folder of its own, that any number of processes on any number of machines work on.

    Parameters
    ----------
    path
        The folder; `open` looks whether it is one, `begin` makes it one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a folder that `stdistill predict` wrote.

        Raises
        ------
        FileNotFoundError
            When it is none.
        """
        path = Path(path).expanduser()
        missing = [name for name in (MANIFEST, SLIDES_CSV) if not (path / name).is_file()]
        if missing:
            found = "is not there" if not path.exists() else f"has no {' and no '.join(missing)}"
            msg = (
                f"{path} is no folder of a cohort: it {found}. Expected what `stdistill predict STUDENT SLIDES… "
                "--out FOLDER` writes for several slides."
            )
            raise FileNotFoundError(msg)
        return cls(path)

    def begin(self, slides: pd.DataFrame, *, command: str, parameters: Mapping[str, Any]) -> pd.Index:
        """Add slides to the folder, which may be new, and return their ids; those that are there keep theirs.

        Parameters
        ----------
        slides
            Text, with a column ``slide`` of absolute paths; further columns are kept as they are.
        command, parameters
            What is run on each of them; those of the folder, where there is one, must be the same.

        Raises
        ------
        ValueError
            When the folder is of another command, or of other parameters such as another student.
        FileExistsError
            When the folder holds something else.
        """
        new = {"command": command, "parameters": dict(parameters), "versions": find_versions()}
        new = json.loads(json.dumps(new, default=str))  # as it is read again
        self._check_free()
        with self._alone():
            manifest = self.path / MANIFEST
            if manifest.is_file():
                kinds = {"command": str, "parameters": dict, "versions": dict}
                check_same(read_json(manifest, NO_COHORT, entries=kinds, advice=ELSEWHERE), new, self.path)
            else:
                _write_json(manifest, new)
            known = self._read_slides() if (self.path / SLIDES_CSV).is_file() else pd.DataFrame(columns=[ID, SLIDE])
            ids = dict(zip(known[SLIDE], known[ID], strict=True))
            for slide in slides[SLIDE]:
                if slide not in ids:
                    ids[slide] = make_id(Path(slide), ids.values())
            given: pd.Index = pd.Index(slides[SLIDE].map(ids), name=ID)
            rows = slides.set_index(given).combine_first(known.set_index(ID))  # what was said last of a slide holds
            columns = dict.fromkeys([SLIDE, *known.columns.drop(ID), *slides.columns])
            rows = rows.loc[list(ids.values()), list(columns)]
            with replacing(self.path / SLIDES_CSV) as beside:
                rows.to_csv(beside)
        self.write_statuses()
        return given

    @property
    def slides(self) -> pd.DataFrame:
        """One row per slide, index ``slide_id``: ``slide`` (absolute path), and the columns that were given."""
        names = self._read_slides()[[ID, SLIDE]]  # a file may be called NA, which is no missing name
        given = self._parse_slides(dtype=dict.fromkeys(TEXT, "str"), keep_default_na=False, na_values=MISSING)
        return given.assign(**names).set_index(ID)

    def statuses(self) -> pd.DataFrame:
        """One row per slide, index ``slide_id``.

        ``status`` is ``"done"``, ``"failed"`` or ``"waiting"``, ``reason`` why it failed, ``n_cells`` and ``n_niches``
        the numbers of cells and of those with a niche, ``verdict`` its verdict, and ``seconds`` what all stages took
        together.
        """
        ids = self._read_slides()[ID]
        rows = [self._status_row(slide_id) for slide_id in ids]
        frame = pd.DataFrame(rows, columns=list(COLUMNS), index=pd.Index(ids, name=ID))
        return frame.astype({"n_cells": "Int64", "n_niches": "Int64", "seconds": "float64"})

    def result(self, slide_id: str) -> Path:
        """Return the folder of a slide that is done: it is there completely, or not at all."""
        return self.path / SLIDES / slide_id

    def warn_of_strangers(self) -> None:
        """Say which results were put here by hand, such as another cohort's: they belong to no slide of this one."""
        tables = (self.path / SLIDES).glob(f"[!.]*/{NICHES_FILE}")
        strangers = sorted({table.parent.name for table in tables} - set(self._read_slides()[ID]))
        if strangers:
            warn(
                f"{len(strangers)} folders in {self.path / SLIDES} are of no slide in {SLIDES_CSV}, and are left out: "
                f"{some(strangers)}. To add slides, run `stdistill predict` with the student of this cohort on them."
            )

    def work(self, slide_id: str) -> Path:
        """Return the folder of a slide in work, or of one that failed."""
        return self.path / WORK / slide_id

    def is_done(self, slide_id: str) -> bool:
        """Whether there are results of the slide."""
        return self.result(slide_id).is_dir()

    def is_settled(self, slide_id: str) -> bool:
        """Whether the slide is done, or failed and is not to be tried again."""
        return self.is_done(slide_id) or self.status(slide_id).get("status") == FAILED

    def status(self, slide_id: str) -> dict[str, Any]:
        """Return what became of the last try that ended; nothing where none did."""
        path = self.path / STATUS / f"{slide_id}.json"
        try:
            found = read_json(path, NO_STATUS, advice=TRY_AGAIN)
        except FileNotFoundError:
            return {}
        with reading(path, NO_STATUS, advice=TRY_AGAIN):
            for name, kinds in STATUS_ENTRIES.items():
                check_entry({name: None, **found}, name, kinds)
            for stage in found.get("seconds") or {}:
                check_entry(found["seconds"], stage, (int, float))
        return found

    def settle(self, slide_id: str, **facts: Any) -> None:
        """Keep what became of a try, and, where it is ``"done"``, put its folder to the results.

        Only who holds the lease of the slide may do so.
        """
        _write_json(self.path / STATUS / f"{slide_id}.json", facts)
        if facts["status"] == DONE:
            self.result(slide_id).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.work(slide_id), self.result(slide_id))
        self.tries(slide_id).unlink(missing_ok=True)
        self.write_statuses()

    def inputs(self, slide_id: str) -> dict[str, Any]:
        """Say what a slide is mapped from, of which its results are, as far as it can be looked up without reading it.

        The size of its file and of that of its nuclei, the name of the latter, and µm per pixel; `None` where the table
        of slides does not say, or a file is not there.
        """
        return _inputs(self.slides.to_dict("index")[slide_id])

    def changed(self, slide_ids: Iterable[str]) -> dict[str, list[str]]:
        """Return the slides that are done of which something is another than what was read, and what (of `inputs`)."""
        slides, found = self.slides.to_dict("index"), {}
        for slide_id in filter(self.is_done, slide_ids):
            before, now = self.status(slide_id), _inputs(slides[slide_id])
            sizes_gone = {name for name in SIZES if None in (before.get(name), now[name])}  # put elsewhere when done
            names = [name for name in now if name in before and name not in sizes_gone and before[name] != now[name]]
            if names:
                found[slide_id] = names
        return found

    def warn_of_changes(self, slide_ids: Iterable[str]) -> None:
        """Say which results are of other files, nuclei or µm per pixel than the table of slides now says."""
        changed = self.changed(slide_ids)
        if changed:
            shown = [f"{slide_id} ({', '.join(SAID[name] for name in names)})" for slide_id, names in changed.items()]
            warn(
                f"{len(changed)} slides are done, and have changed since: {'; '.join(shown[:5])}"
                f"{'; …' if len(shown) > 5 else ''}. Their results are of what was there before. Remove their folders, "
                f"{self.path / SLIDES}/SLIDE_ID, and run `stdistill predict` again, which maps them anew."
            )

    def forget_failure(self, slide_id: str) -> None:
        """Let a slide that failed wait for another try."""
        if not self.is_done(slide_id) and self.status(slide_id).get("status") == FAILED:
            (self.path / STATUS / f"{slide_id}.json").unlink(missing_ok=True)

    def lease(self, slide_id: str) -> Lease:
        """Return the lock of a slide, open."""
        return lease(self.path / LOCKS / f"{slide_id}.lock")

    def tries(self, slide_id: str) -> Path:
        """Return the file that counts tries whose process was killed, and the steps that were finished by then."""
        return self.path / LOCKS / f"{slide_id}.tries"

    def write_statuses(self) -> None:
        """Renew the table of what became of all slides."""
        with self._alone(), replacing(self.path / STATUS_CSV) as beside:
            self.statuses().to_csv(beside)

    def _status_row(self, slide_id: str) -> dict[str, Any]:
        found = self.status(slide_id)
        if not self.is_settled(slide_id):  # such as one whose process was killed before its folder was renamed
            return {"status": WAITING}
        status = DONE if self.is_done(slide_id) else FAILED
        seconds = sum(found["seconds"].values()) if found.get("seconds") else None
        return {**{key: found.get(key) for key in COLUMNS}, "status": status, "seconds": seconds}

    def _read_slides(self) -> pd.DataFrame:
        """Read the list of slides as it is written, all of it text, and check it: ids become names of folders."""
        rows = self._parse_slides(dtype="str", keep_default_na=False).fillna("")
        missing = [name for name in (ID, SLIDE) if name not in rows]
        if missing:
            msg = f"{self.path / SLIDES_CSV} {NO_SLIDES}: it has the columns {list(rows.columns)}: {ELSEWHERE}."
            raise ValueError(msg)
        odd = [name for name in rows[ID] if name in ("", ".", "..") or UNSAFE.search(name)]
        odd += rows[ID][rows[ID].str.casefold().duplicated()].tolist()
        if odd:
            msg = (
                f"{self.path / SLIDES_CSV} {NO_SLIDES}: the slide_id {odd[0]!r} is there twice, or no name of letters, "
                f"digits, '_', '-' and '.': {ELSEWHERE}."
            )
            raise ValueError(msg)
        return rows

    def _parse_slides(self, **options: Any) -> pd.DataFrame:
        return read_csv(self.path / SLIDES_CSV, NO_SLIDES, advice=ELSEWHERE, **options)

    def _check_free(self) -> None:
        """Raise when the folder holds something else; workflow engines make folders for their logs first."""
        if self.path.is_dir():
            ours = (STATUS, WORK, SLIDES)
            found = [each.name for each in self.path.iterdir() if each.name in ours or each.is_file()]
            found = [name for name in found if not name.startswith(".")]
        else:
            found = [self.path.name] if self.path.exists() else []
        if found and not (self.path / MANIFEST).is_file():
            msg = (
                f"{self.path} exists and holds no {MANIFEST} of a cohort, but {some(sorted(found))}: name a folder "
                "that is new or empty."
            )
            raise FileExistsError(msg)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from writing what is of all slides."""
        with wait_for_lease(self.path / LOCKS / ".cohort.lock"):
            yield


def _inputs(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """Return the `inputs` of a row of the table of slides."""
    nuclei, mpp = (None if pd.isna(value) else value for value in (row.get("nuclei"), row.get("mpp")))
    return {
        "bytes": size_of(Path(row[SLIDE])),
        "mpp": mpp if mpp is None or isinstance(mpp, str) else float(mpp),
        "nuclei": None if nuclei is None else Path(nuclei).name,
        "nuclei_bytes": None if nuclei is None else size_of(Path(nuclei)),
    }


def size_of(slide: Path) -> int | None:
    """Return the size of the file of a slide, in bytes; `None` of folders, and of what was put elsewhere since."""
    return slide.stat().st_size if slide.is_file() else None


def make_id(path: Path, taken: Any) -> str:
    """Name a slide by its file, safely for paths and unlike those `taken`, whatever the case of letters.

    Where the name is taken, that of its folder is put before it, then that of the folder above, and so on; where all
    are, a number is put after it.
    """
    used = {name.casefold() for name in taken}
    candidate = _safe(DOUBLE_SUFFIX.sub("", path.stem))
    for folder in path.parents:
        if candidate.casefold() not in used:
            return candidate
        candidate = f"{_safe(folder.name)}_{candidate}" if folder.name else candidate
    number = 2
    while f"{candidate}_{number}".casefold() in used:
        number += 1
    return f"{candidate}_{number}"


def _safe(name: str) -> str:
    return UNSAFE.sub("_", name).lstrip(".") or "slide"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str), encoding="utf-8")
