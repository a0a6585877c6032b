"""What a cohort is, and which of its slides are meant now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stdistill._flows.predict import Asked, load_student
from stdistill._formats.slides.listing import list_slides
from stdistill._runs.cohort import SLIDE, CohortFolder
from stdistill._support.files import digest_file
from stdistill._table.fitting.like_model import find_encoders
from stdistill.models.saved import CARD

OF_ALL = ("mpp", "scene", "method", "nuclei_unit", "strict")
"""What is asked of all slides, and so the same whenever a cohort goes on."""


def begin(out: Path, paths: Sequence[Path], asked: Asked) -> tuple[CohortFolder, list[str]]:
    """Begin a cohort, or go on with it, and return the ids of the slides that paths stand for.

    Before anything is written the student and its encoder are looked at: without them no slide could be mapped.
    """
    model = load_student(asked.student)
    slides = list_slides(paths)
    if not all(slide.endswith(".h5ad") for slide in slides[SLIDE]):
        find_encoders(model.card, asked.encoder)
    cohort = CohortFolder(out)
    parameters = {"student_sha256": digest_file(asked.student / CARD)} | {name: getattr(asked, name) for name in OF_ALL}
    return cohort, list(cohort.begin(slides, command="predict", parameters=parameters))


def choose(slide_ids: Sequence[str], shard: tuple[int, int] | None, only: Sequence[str]) -> list[str]:
    """Choose slides by their ids, and of these every n-th from the i-th on, counted from 1.

    Raises
    ------
    KeyError
        When there is no slide of an id.
    """
    unknown = [slide_id for slide_id in only if slide_id not in slide_ids]
    if unknown:
        more = f" and {len(slide_ids) - 10} more" if len(slide_ids) > 10 else ""
        msg = f"There is no slide {unknown[0]!r}. There are {', '.join(slide_ids[:10])}{more}; slides.csv has all."
        raise KeyError(msg)
    chosen = [slide_id for slide_id in slide_ids if not only or slide_id in only]
    if shard is None:
        return chosen
    number, of = shard
    return chosen[number - 1 :: of]
