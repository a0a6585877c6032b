"""Copies of slides on a disk that is nearer than theirs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stdistill._support.files import digest

WITH_FOLDER = ".mrxs"
"""A slide of this format has most of its pixels in a folder of its name beside it."""


@contextmanager
def staged(slide: Path, disk: Path, *, owner: Path) -> Iterator[Path]:
    """Give a copy of a slide inside the block.

    It lies in a folder that is named by its owner, and so is what a killed process left: the next one removes it.

    Parameters
    ----------
    slide
        A file, which in the case of MIRAX is copied with its folder, or a bundle.
    disk
        Folder to copy to.
    owner
        Folder of the results; no two processes have the same at once.
    """
    folder = disk / f"stdistill-{owner.name}-{digest(str(owner))[:8]}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        copy = folder / slide.name
        if slide.is_dir():
            shutil.copytree(slide, copy)
        else:
            shutil.copyfile(slide, copy)
        companion = slide.with_suffix("")
        if slide.suffix.lower() == WITH_FOLDER and companion.is_dir():
            shutil.copytree(companion, copy.with_suffix(""))
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)
