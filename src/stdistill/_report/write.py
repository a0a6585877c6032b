"""The report of a run: a folder that appears when all of it is written, or a single file."""

from __future__ import annotations

import logging
from pathlib import Path

from stdistill._report.page import ASSETS
from stdistill._report.slide import SCRIPTS, STYLE, write_slide
from stdistill._report.source import read_slide
from stdistill._report.store import FolderStore, InlineStore
from stdistill._support.files import replacing, replacing_folder

logger = logging.getLogger("stdistill")

REPORT = "report"
INDEX = "index.html"
LICENSE = "openseadragon.LICENSE.txt"


def write_report(folder: Path, *, he_image: Path | None = None, single_file: bool = False) -> Path:
    """Write the report of a slide, beside what was there before and then in its place.

    Parameters
    ----------
    folder
        Of the run.
    he_image
        Where the H&E is now, by default where it was.
    single_file
        Whether to write one file, ``report.html``, with an H&E of a few µm per pixel, instead of ``report/``.

    Returns
    -------
    The page.
    """
    slide = read_slide(folder, he_image)
    if single_file:
        page = folder / f"{REPORT}.html"
        content = write_slide(slide, InlineStore())
        with replacing(page) as new:
            new.write_bytes(content)
        return page
    with replacing_folder(folder / REPORT) as new:
        content = write_slide(slide, FolderStore(new))
        copy_assets(new, (STYLE, *SCRIPTS, LICENSE))
        (new / INDEX).write_bytes(content)
    return folder / REPORT / INDEX


def copy_assets(folder: Path, names: tuple[str, ...]) -> None:
    """Copy style sheet, scripts and licence to the folder of a report."""
    target = folder / "assets"
    target.mkdir(exist_ok=True)
    for name in names:
        (target / name).write_bytes((ASSETS / name).read_bytes())
