"""Who works on which slide of a cohort: each process takes the next that nobody has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from filelock import Timeout

from stdistill._flows.cohort.slide import Unit
from stdistill._flows.predict import load_student
from stdistill._runs.cohort import DONE, CohortFolder
from stdistill._support.cpus import n_cpus
from stdistill._support.locks import forget_unsigned

logger = logging.getLogger("stdistill")

LOOK_AGAIN_S = 2.0
"""At slides that others work on."""

Say = Callable[[str], None]


def work_through(unit: Unit, slide_ids: Sequence[str], say: Say, *, n_workers: int = 1) -> None:
    """Map all slides that are neither done nor failed, and wait for those that others work on.

    Parameters
    ----------
    unit
        How a slide is mapped.
    slide_ids
        Which.
    say
        Gets a line for each slide that this process settled.
    n_workers
        Processes on this machine that share its processors.
    """
    cohort = unit.cohort
    left = [slide_id for slide_id in slide_ids if not cohort.is_settled(slide_id)]
    if not left:
        return
    if n_workers > 1:
        torch.set_num_threads(max(1, n_cpus() // n_workers))
    model = load_student(unit.asked.student)
    leases = {slide_id: cohort.lease(slide_id) for slide_id in left}  # each remembers since when it watches
    while left:
        n_before = len(left)
        for slide_id in list(left):
            if not cohort.is_settled(slide_id):
                try:
                    held = leases[slide_id].acquire(blocking=False)
                except Timeout:
                    forget_unsigned(Path(leases[slide_id].lock_file))
                    continue
                with held as lease:
                    if not cohort.is_settled(slide_id):  # in the meantime
                        try:
                            unit.work_on(slide_id, model, lease)
                        except BlockingIOError as error:
                            logger.info("%s: %s", slide_id, error)
                            continue
                        say(_line(cohort, slide_id, slide_ids))
            left.remove(slide_id)
        if len(left) == n_before:
            time.sleep(LOOK_AGAIN_S)


def _line(cohort: CohortFolder, slide_id: str, slide_ids: Sequence[str]) -> str:
    """Say in a line what became of a slide."""
    found = cohort.status(slide_id)
    n_settled = sum(map(cohort.is_settled, slide_ids))
    seconds = sum(found["seconds"].values())
    start = f"[{n_settled}/{len(slide_ids)}] {slide_id}:"
    if found["status"] != DONE:
        return f"{start} failed. {found['reason']}"
    return f"{start} done in {seconds:.0f} s, {found['n_niches']:,} of {found['n_cells']:,} cells, {found['verdict']}"
