"""Several processes on one machine that share the slides of a cohort, and are replaced when they are killed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from stdistill._flows.cohort.slide import MAX_TRIES, Unit
from stdistill._flows.cohort.work import Say, work_through

logger = logging.getLogger("stdistill")

INTERRUPT_S = 10.0
"""To end by themselves."""


def share(
    unit: Unit, slide_ids: Sequence[str], say: Say, *, n_workers: int, prepare: Callable[[], None] | None = None
) -> None:
    """Let several processes work through slides.

    What a killed one had begun another takes over; a slide by which `MAX_TRIES` are killed in one step has failed.

    Parameters
    ----------
    unit, slide_ids, say
        As of `work_through`. They go to processes of their own, and so must be functions of a module.
    n_workers
        How many processes.
    prepare
        Called first in each.

    Raises
    ------
    RuntimeError
        When processes ended by an error that was not of a slide, or were killed before they came to any.
    """
    context = get_context("spawn")  # threads and CUDA do not survive a fork
    arguments = (unit, list(slide_ids), say, n_workers, prepare)
    running: list[SpawnProcess] = []
    n_left = n_workers + MAX_TRIES * len(slide_ids)
    """Processes that may yet be started."""
    n_broken = 0
    try:
        while True:
            n_open = sum(not unit.cohort.is_settled(slide_id) for slide_id in slide_ids)
            while len(running) < min(n_workers - n_broken, n_open) and n_left:
                process = context.Process(target=_work, args=arguments)
                process.start()
                running.append(process)
                n_left -= 1
            if not running:
                break
            wait([process.sentinel for process in running])
            for process in [each for each in running if not each.is_alive()]:
                process.join()
                running.remove(process)
                code = process.exitcode or 0
                if code < 0:
                    logger.warning("Process %s was killed by signal %d; its slide is taken over.", process.pid, -code)
                n_broken += code > 0
    finally:
        for process in running:  # after an interrupt, which they got as well
            process.join(INTERRUPT_S)
            process.terminate()
            process.join()
    if n_open:
        msg = f"{n_open} slides are open, because all processes that worked on them ended: see what they said above."
        raise RuntimeError(msg)


def _work(unit: Unit, slide_ids: Sequence[str], say: Say, n_workers: int, prepare: Callable[[], None] | None) -> None:
    if prepare is not None:
        prepare()
    work_through(unit, slide_ids, say, n_workers=n_workers)
