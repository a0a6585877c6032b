"""One slide of a cohort: a unit of work that ends with results or with the reason why there are none."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from stdistill._flows.cohort.stage import staged
from stdistill._flows.predict import Asked, predict
from stdistill._runs.cohort import DONE, FAILED, SLIDE, STATUS, CohortFolder
from stdistill._runs.folder import MANIFEST, now, read_manifest
from stdistill._support.locks import Lease
from stdistill.models import NicheModel

logger = logging.getLogger("stdistill")

MAX_TRIES = 5
"""Of processes that were killed one after the other in the same step of a slide, as when memory runs out."""


class Unit(NamedTuple):
    """How each slide of a cohort is to be mapped."""

    cohort: CohortFolder
    asked: Asked
    stage: Path | None = None
    """A disk to copy it to first."""

    def work_on(self, slide_id: str, model: NicheModel, lease: Lease) -> None:
        """Map a slide whose lease is held, and settle what became of it.

        Raises
        ------
        BlockingIOError
            When another process writes to its folder, or has taken the lease over.
        """
        cohort = self.cohort
        tries = cohort.tries(slide_id)
        n_steps = len(_seconds_of_steps(cohort.work(slide_id)))
        killed = _killed_since(tries, n_steps)
        facts: dict[str, Any] = {"status": FAILED, "reason": None, "error": None, "started": now()}
        facts |= {"host": socket.gethostname(), "pid": os.getpid()}
        if killed >= MAX_TRIES:
            reason = (
                f"{killed} processes were killed while they worked on it and came no further, as when memory runs out. "
                "Try it again on a machine with more memory, with --retry-failed."
            )
            cohort.settle(slide_id, **facts | {"reason": reason, "error": "Killed", "ended": now(), "seconds": {}})
            return
        tries.write_text(f"{killed + 1} {n_steps}")
        seconds: dict[str, float] = {}
        try:
            with _heard_in(cohort.path / STATUS / f"{slide_id}.log"):
                facts |= {"status": DONE, **self._map(slide_id, model, seconds)}
        except BlockingIOError:
            tries.unlink()
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a slide must not stop the others
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            facts |= {"reason": " ".join(str(message).split()) or type(error).__name__, "error": type(error).__name__}
        except BaseException:  # Ctrl-C: it was not the slide
            tries.unlink()
            raise
        if lease.compromise is not None:
            msg = "Another process took it over, since this one gave no sign for long."
            raise BlockingIOError(msg)
        seconds |= _seconds_of_steps(cohort.work(slide_id))
        cohort.settle(slide_id, **facts, ended=now(), seconds=seconds)

    def _map(self, slide_id: str, model: NicheModel, seconds: dict[str, float]) -> dict[str, Any]:
        """Map a slide in its folder of work; `seconds` gets what is no step of it."""
        inputs = self.cohort.inputs(slide_id)
        row: Mapping[Any, Any] = self.cohort.slides.loc[slide_id].to_dict()
        slide, work = Path(row[SLIDE]), self.cohort.work(slide_id)
        asked = self.asked
        if pd.notna(mpp := row.get("mpp")):
            asked = asked._replace(mpp=float(mpp))
        if pd.notna(nuclei := row.get("nuclei")):
            asked = asked._replace(nuclei=Path(nuclei))
        if not slide.exists():
            msg = f"There is no slide {slide}."
            raise FileNotFoundError(msg)
        with ExitStack() as stack:
            copy = None
            if self.stage is not None:
                start = time.monotonic()
                copy = stack.enter_context(staged(slide, self.stage, owner=work))
                seconds["stage"] = round(time.monotonic() - start, 2)
            niches, verdict = predict(model, slide, work, asked, copy=copy)
        n_niches = int(niches.obs["student_niche"].notna().sum())
        return {
            "n_cells": niches.n_obs,
            "n_niches": n_niches,
            "verdict": verdict.verdict,
            **inputs,
        }


@contextmanager
def _heard_in(path: Path) -> Iterator[None]:
    """Write to a file, and not to the screen, what is said and warned inside the block, and why it failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, redirect_stderr(file):
        handler = logging.StreamHandler(file)
        before = logger.propagate, logger.level
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO)
        try:
            yield
        except Exception:
            logger.exception("It failed.")
            raise
        finally:
            logger.removeHandler(handler)
            logger.propagate = before[0]
            logger.setLevel(before[1])


def _killed_since(tries: Path, n_steps: int) -> int:
    """Return how many processes were killed since so many steps were finished: one that came further was no failure."""
    counted = tries.read_text().split() if tries.is_file() else []
    killed, before = map(int, counted) if len(counted) == 2 else (0, n_steps)  # one may be killed when it writes it
    return killed if before == n_steps else 0


def _seconds_of_steps(folder: Path) -> dict[str, float]:
    """Read what the finished steps of a run took."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    return {step["step"]: step["seconds"] for step in read_manifest(path)["steps"]}
