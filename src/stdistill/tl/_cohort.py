"""A cohort as one table: a row per slide, a column per niche."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill._measures.composition import shares
from stdistill._runs.cohort import DONE, FAILED, CohortFolder
from stdistill._runs.slide_results import SlideResult, read_slide_result
from stdistill._support.checks import some
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.cohorts import STUDENT_MODEL
from stdistill._table.records import write_record

logger = logging.getLogger("stdistill")

UM2_PER_MM2 = 1e6
NICHE_COLUMN = "niche"
"""Of ``.var``, by which the colours of the niches go."""


def cohort(folder: str | Path) -> AnnData:
    """Read what became of many slides into one table, a row per slide and a column per niche.

    Parameters
    ----------
    folder
        What ``stdistill predict STUDENT SLIDES… --out FOLDER`` wrote for several slides. It may go on being written:
        the slides that are done are read, one after the other.

    Returns
    -------
    Table with a row for each slide that is done (n), named by its ``slide_id``, and a column for each niche (k):

    ``.X``
        float32, share of each niche in the cells that have one. NaN on a slide where no cell has.
    ``.layers["counts"]``
        int64, numbers of cells.
    ``.layers["area"]``
        float32, share of each niche in the area of the cells that have one. The area of a cell is what lies nearer to
        it than to any other, and no further than 30 µm: a niche of large or loose cells has more of the area than of
        the cells.
    ``.obs``
        The columns of the cohort's ``slides.csv``, as they are, among them times and events for survival analysis;
        ``n_cells``, and ``n_niches`` of those that have one; ``area_mm2``; ``mean_confidence``; ``unlike_share``, of
        the cells with a niche that are unlike the student's training, and ``trusted_share``, whose niche may be
        believed; ``verdict``; ``student_model``, the fingerprint of the student. A column of ``slides.csv`` with one of
        these names is under ``<name>_given``.
    ``.obsm["adjacency"]``
        float64 (n, k·k), squidpy's interaction matrix row by row: the number of neighbours in niche j that the cells of
        niche i have, within the student's radius. ``cohort.obsm["adjacency"].reshape(-1, k, k)`` has it as matrices.
    ``.var["niche"]``, ``.uns["niche_colors"]``
        The niches as categories, and the student's colours.
    ``.uns["stdistill"]["cohort"]``
        ``folder``; ``model_sha256`` and ``radius_um`` of the student; ``failed`` and ``reasons``, the slides that
        failed, or cannot be read, and why; ``waiting``, those that are not done yet.

    Raises
    ------
    FileNotFoundError
        When the folder is none of a cohort.
    ValueError
        When no slide is done, none can be read, or slides are of several students.

    Warns
    -----
    UserWarning
        When slides failed or are not done yet, or their results cannot be read, which are no rows; are of one and the
        same file; or their file, nuclei or µm per pixel are others than they were mapped with; and when results were
        put into the folder by hand, which are left out.

    See Also
    --------
    stdistill.tl.compare_niches : whether groups of slides differ.

    Notes
    -----
    The area is our choice: outlines of nuclei leave most of the tissue to nobody, and the tissue's own outline has no
    niches. It is summed over places 6 µm apart.

    Examples
    --------
    >>> import stdistill as sd
    >>> sd.tl.cohort("no_such_folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: no_such_folder is no folder of a cohort: it is not there. Expected what ...
    """
    where = CohortFolder.open(folder)
    where.warn_of_strangers()
    statuses, given = where.statuses(), where.slides
    ids = statuses.index[statuses["status"] == DONE]
    failed = statuses[statuses["status"] == FAILED]
    waiting = statuses.index.difference(ids.union(failed.index), sort=False)
    if ids.empty:
        msg = f"No slide of {folder} is done: {len(failed)} failed, {len(waiting)} are waiting."
        raise ValueError(msg)
    _warn_of_missing(list(failed.index), list(waiting), len(statuses))
    where.warn_of_changes(ids)
    results, unreadable = [], {}
    for slide_id in ids:
        try:
            results.append(read_slide_result(where.result(slide_id)))
        except (OSError, ValueError) as error:
            unreadable[slide_id] = str(error)
            continue
        _check_same_student(results, [each for each in ids if each not in unreadable])
        logger.info("Read %s: %d cells.", slide_id, results[-1].facts["n_cells"])
    if unreadable:
        _warn_of_unreadable(unreadable, where, n_read=len(results))
        ids = ids[~ids.isin(list(unreadable))]
    first = results[0]
    counts, areas = np.array([each.counts for each in results]), np.array([each.area_um2 for each in results])
    facts = pd.DataFrame([each.facts for each in results], index=ids)
    facts.insert(2, "area_mm2", areas.sum(axis=1) / UM2_PER_MM2)
    facts["verdict"] = pd.Categorical(facts["verdict"], categories=["usable", "partly", "not"])
    facts[STUDENT_MODEL] = pd.Categorical([first.model[:16]]).repeat(len(facts))  # stays where tables are concatenated
    _warn_of_copies(list(ids), [each.digest for each in results])
    own = given.loc[ids].rename(columns={name: f"{name}_given" for name in facts.columns})
    found = AnnData(
        shares(counts).astype(np.float32),
        obs=pd.concat([own, facts], axis=1),
        var=pd.DataFrame({NICHE_COLUMN: pd.Categorical(first.niches, first.niches)}, index=first.niches),
    )
    found.obs_names.name = None
    found.layers[schema.COUNTS], found.layers[schema.AREA] = counts, shares(areas).astype(np.float32)
    found.obsm[schema.ADJACENCY] = np.array([each.adjacency.ravel() for each in results])
    found.uns[f"{NICHE_COLUMN}_colors"] = np.array(first.colors, dtype=object)
    write_record(
        found,
        "cohort",
        folder=str(where.path),
        model_sha256=first.model,
        radius_um=first.radius_um,
        failed=[*failed.index, *unreadable],
        reasons=[*map(str, failed["reason"]), *unreadable.values()],
        waiting=list(waiting),
    )
    return found


def _warn_of_missing(failed: Sequence[str], waiting: Sequence[str], n_slides: int) -> None:
    """Say which slides are no rows."""
    parts = [
        f"{len(ids)} {what} ({some(ids)})" for ids, what in ((failed, "failed"), (waiting, "are not done yet")) if ids
    ]
    if parts:
        warn(
            f"Of {n_slides} slides {' and '.join(parts)}: they are no rows of the table. Why slides failed is in "
            'status.csv and in .uns["stdistill"]["cohort"]["reasons"].'
        )


def _warn_of_unreadable(reasons: Mapping[str, str], cohort: CohortFolder, *, n_read: int) -> None:
    """Say which results are damaged, as of a disk that was full or a copy that was cut off; raise when all are."""
    slide_id, reason = next(iter(reasons.items()))
    msg = (
        f"The results of {len(reasons)} slides cannot be read ({some(reasons)}): {reason} Delete "
        f"{cohort.result(slide_id)}{' and those of the others' if len(reasons) > 1 else ''}, and run "
        "`stdistill predict` again, which makes what is missing."
    )
    if not n_read:
        raise ValueError(msg)
    warn(f"{msg} Until then they are no rows of the table.")


def _warn_of_copies(ids: Sequence[str], digests: Sequence[str | None]) -> None:
    """Say which slides are one file under several names, such as a copy or a link, which would count several times."""
    by_file: dict[str, list[str]] = {}
    for slide_id, digest in zip(ids, digests, strict=True):
        if digest is not None:
            by_file.setdefault(digest, []).append(slide_id)
    copies = [names for names in by_file.values() if len(names) > 1]
    if copies:
        shown = some(" = ".join(names) for names in copies)
        extra = [name for names in copies for name in names[1:]]
        warn(
            f"{sum(map(len, copies))} slides are of {len(copies)} files, each under several names ({shown}): one slide "
            f"would count as several. Leave the copies out: cohort[~cohort.obs_names.isin({extra[:5]!r})]."
        )


def _check_same_student(results: Sequence[SlideResult], ids: Sequence[str]) -> None:
    """Raise when the slide that was read last is of another student than the first."""
    one, other = results[0], results[-1]
    if (one.model, one.niches) != (other.model, other.niches):
        msg = (
            f"The slides {ids[0]} and {ids[len(results) - 1]} are of two students ({one.model[:12]}… with the niches "
            f"{one.niches}, {other.model[:12]}… with {other.niches}): their niches cannot be compared. Run all slides "
            "with one."
        )
        raise ValueError(msg)
