"""The report of a cohort: a table of its slides, and a page of each that is done."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Hashable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from stdistill._measures.verdict import WORDS
from stdistill._report.page import link_assets, render
from stdistill._report.slide import SCRIPTS, STYLE, THUMBNAIL, summarize, write_slide
from stdistill._report.source import TABLES, read_slide
from stdistill._report.store import FolderStore
from stdistill._report.write import INDEX, LICENSE, REPORT, copy_assets
from stdistill._runs.cohort import CohortFolder
from stdistill._support.files import digest_parts, replacing, replacing_folder
from stdistill._support.warn import warn

logger = logging.getLogger("stdistill")

TABLE_SCRIPT = "table.js"
SUMMARY = "summary.json"
SLIDES = "slides"
BROKEN = (ValueError, LookupError, TypeError, OSError, RuntimeError, ImportError)
"""What the page of one slide may fail with: the others are written."""
OF_THE_FOLDER = ("slide", "mpp", "nuclei")
"""Columns of a cohort's CSV that say how a slide was read, and not what it is."""


def write_cohort(folder: Path, *, single_file: bool = False) -> Path:
    """Write the pages of the slides that are done, and the table of all.

    Pages of slides whose results are as they were are not written again. All is in ``report/``, which can be moved as
    a whole.

    Parameters
    ----------
    folder
        Of the cohort.
    single_file
        Whether to write the table alone to one file, ``report.html``; slides have no pages in it.

    Returns
    -------
    The page of the table.
    """
    cohort = CohortFolder.open(folder)
    cohort.warn_of_strangers()
    report = folder / REPORT
    slides = cohort.slides
    statuses = cohort.statuses().to_dict("index")
    rows, summaries = [], {}
    for key, given in slides.to_dict("index").items():
        slide_id, status = str(key), statuses[key]
        target = report / SLIDES / slide_id
        summary = None
        if status["status"] == "done":
            summary = _write_page(cohort.result(slide_id), target, slide_id)
            summaries[slide_id] = summary
        rows.append(_row(slide_id, given, status, summary, target, single_file))
    students = _warn_of_students(summaries)
    page = _render(folder.name, slides, rows, students, single_file)
    if single_file:
        path = folder / f"{REPORT}.html"
    else:
        report.mkdir(exist_ok=True)
        copy_assets(report, (STYLE, *SCRIPTS, TABLE_SCRIPT, LICENSE))
        path = report / INDEX
    with replacing(path) as new:
        new.write_bytes(page)
    return path


def _write_page(result: Path, target: Path, slide_id: str) -> dict[str, Any] | None:
    """Write the page of a slide, unless it is there, and return what the table says of it; `None` where it fails."""
    table = next((result / name for name in TABLES if (result / name).is_file()), None)
    made_of = [version("stdistill"), "" if table is None else digest_parts(table)]
    known = target / SUMMARY
    if known.is_file():
        found: dict[str, Any] = json.loads(known.read_text(encoding="utf-8"))
        if found.get("made_of") == made_of:
            return found
    try:
        slide = read_slide(result)
        summary = {"made_of": made_of, **summarize(slide)}
        with replacing_folder(target) as new:
            page = write_slide(slide, FolderStore(new), assets="../../assets/", up=f"../../{INDEX}", title=slide_id)
            (new / INDEX).write_bytes(page)
            (new / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")
    except BROKEN as error:
        warn(f"No page of the slide {slide_id!r}: {error}")
        return None
    logger.info("Wrote the page of %s.", slide_id)
    return summary


def _warn_of_students(summaries: Mapping[str, dict[str, Any] | None]) -> list[str]:
    """Name a slide of each student, and say where they are several: niches of one name are not the same."""
    first: dict[str, str] = {}
    for slide_id, summary in summaries.items():
        student = None if summary is None else summary.get("student")
        if student is not None:
            first.setdefault(student, slide_id)
    if len(first) > 1:
        warn(
            f"The slides are of {len(first)} students, such as {' and '.join(list(first.values())[:3])}: niches of one "
            "name are not the same. Run all slides with one."
        )
    return list(first.values())


def _row(
    slide_id: str,
    given: Mapping[Hashable, Any],
    status: Mapping[Hashable, Any],
    summary: dict[str, Any] | None,
    target: Path,
    single_file: bool,
) -> dict[str, Any]:
    """Say what one line of the table shows."""
    verdict = None if pd.isna(status["verdict"]) else str(status["verdict"])
    if status["status"] == "done":
        words = WORDS.get(str(verdict), "no verdict").split(",")[0].capitalize()
        more = "; ".join([] if summary is None else summary["reasons"])
    else:
        words, verdict = str(status["status"]).capitalize(), str(status["status"])
        more = "" if pd.isna(status["reason"]) else str(status["reason"])
    own = [_cell(given[name]) for name in _own_columns(given)]
    columns = [
        _cell(slide_id),
        *own,
        _cell(status["n_cells"]),
        {"text": words, "sort": words, "dot": verdict, "more": more},
    ]
    thumbnail = None
    if summary is not None:
        path = target / THUMBNAIL
        inline = f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
        thumbnail = inline if single_file else f"{SLIDES}/{slide_id}/{THUMBNAIL}"
    return {
        "columns": columns,
        "kind": words,
        "thumbnail": thumbnail,
        "page": f"{SLIDES}/{slide_id}/{INDEX}" if summary is not None and not single_file else None,
        "niches": [] if summary is None else summary["niches"],
    }


def _render(
    title: str, slides: pd.DataFrame, rows: list[dict[str, Any]], students: list[str], single_file: bool
) -> bytes:
    own = _own_columns(slides.columns)
    heads = [
        {"title": "Slide", "number": False},
        *({"title": name, "number": bool(pd.api.types.is_numeric_dtype(slides[name]))} for name in own),
        {"title": "Cells", "number": True},
        {"title": "Verdict", "number": False},
    ]
    kinds = pd.Series([row["kind"] for row in rows], dtype=object).value_counts()
    names = {name: f"assets/{name}" for name in (STYLE, TABLE_SCRIPT)}
    return render(
        "cohort.html",
        title=title,
        assets=link_assets(names, single_file=single_file),
        style=STYLE,
        scripts=(TABLE_SCRIPT,),
        heads=heads,
        rows=rows,
        students=students,
        counts=[f"{count} {str(kind).lower()}" for kind, count in kinds.items()],
        niches={niche["name"]: niche["color"] for row in rows for niche in row["niches"]},
    )


def _own_columns(columns: Iterable[Hashable]) -> list[str]:
    return [str(name) for name in columns if name not in OF_THE_FOLDER]


def _cell(value: Any) -> dict[str, Any]:
    """Say how a value is shown, and what it is sorted by."""
    if pd.isna(value):
        return {"text": "", "sort": "", "dot": None, "more": ""}
    text = str(value)
    if not isinstance(value, str):
        text = f"{value:,}" if float(value).is_integer() else f"{value:.4g}"
    return {"text": text, "sort": str(value), "dot": None, "more": ""}
