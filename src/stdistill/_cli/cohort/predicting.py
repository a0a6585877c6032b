"""What ``stdistill predict`` does with several slides."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from stdistill._cli.options import FOLDER, Decorator, trust_remote_code

if TYPE_CHECKING:
    from stdistill._flows.predict import Asked
    from stdistill._runs.cohort import CohortFolder

COHORT = "cohort.json"
REASON_LETTERS = 200
"""Of a reason in the table; the line of the slide, and its status file, have all of it."""


def _parse_shard(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Read which part of how many it is."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", value)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        msg = f"{value!r} is no part of a number of parts; of eight these are 1/8 to 8/8."
        raise click.BadParameter(msg)
    return int(found[1]), int(found[2])


COHORT_OPTIONS: Sequence[Decorator] = (
    click.option(
        "--shard",
        metavar="I/N",
        callback=_parse_shard,
        help="Only the I-th of N parts of the slides, as for job arrays.",
    ),
    click.option("--only", multiple=True, metavar="SLIDE_ID", help="Only this slide of slides.csv; may be repeated."),
    click.option("--retry-failed", is_flag=True, help="Try slides again that failed, which else are reported."),
    click.option("--stage", type=FOLDER, help="Copy each slide to this local disk first, and remove it afterwards."),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Processes on this machine; while one reads a slide another one encodes.",
    ),
)


class Spread(NamedTuple):
    """Which slides of a cohort, and by whom."""

    shard: tuple[int, int] | None = None
    only: tuple[str, ...] = ()
    retry_failed: bool = False
    stage: Path | None = None
    workers: int = 1


def map_cohort(ctx: click.Context, paths: Sequence[Path], out: Path, asked: Asked, spread: Spread) -> None:
    """Map slides, and say of each in a line, and of all in a table, what became of it."""
    from stdistill._flows.cohort.begin import begin, choose
    from stdistill._flows.cohort.slide import Unit
    from stdistill._flows.cohort.work import work_through
    from stdistill._flows.cohort.workers import share
    from stdistill._support.checks import some

    cohort, slide_ids = begin(out, paths, asked)
    chosen = choose(slide_ids, spread.shard, spread.only)
    if spread.retry_failed:
        for slide_id in chosen:
            cohort.forget_failure(slide_id)
    n_open = sum(not cohort.is_settled(slide_id) for slide_id in chosen)
    click.echo(f"{len(chosen)} slides, {len(chosen) - n_open} of them settled before. Results go to {out}.")
    others = [slide_id for slide_id in cohort.slides.index if slide_id not in set(slide_ids)]
    if others:
        click.echo(
            f"{len(others)} more slides are in {out} from before, and stay there: {some(others)}. To leave them out of "
            f"statistics: cohort[~cohort.obs_names.isin({others[:5]})]{' and so on' if len(others) > 5 else ''}."
        )
    cohort.warn_of_changes(chosen)
    unit = Unit(cohort, asked, spread.stage)
    if spread.workers == 1 or n_open < 2:
        work_through(unit, chosen, click.echo)
    else:
        trusts = ctx.get_parameter_source("trust_remote_code") is click.core.ParameterSource.COMMANDLINE
        share(unit, chosen, click.echo, n_workers=spread.workers, prepare=trust_remote_code if trusts else None)
    statuses = cohort.statuses().loc[chosen]
    click.echo("\n" + _table(cohort, chosen))
    counts = statuses["status"].value_counts()
    click.echo(f"\n{counts.get('done', 0)} done, {counts.get('failed', 0)} failed. status.csv in {out} has all slides.")
    if counts.get("done", 0):
        click.echo(f"To look at them in a browser: stdistill report {shlex.quote(str(out))}")
    if counts.get("failed", 0):
        again = "" if spread.retry_failed else " Try them again with --retry-failed."
        click.echo(f"What was said of those that failed is in {out}/status/SLIDE_ID.log.{again}", err=True)
        ctx.exit(1)


def _table(cohort: CohortFolder, slide_ids: Sequence[str]) -> str:
    """Write a row per slide: what became of it, seconds of each stage, cells, verdict, and why it failed."""
    import pandas as pd

    rows = []
    for slide_id, row in cohort.statuses().loc[list(slide_ids)].iterrows():
        seconds = cohort.status(str(slide_id)).get("seconds", {})
        reason = row["reason"] if isinstance(row["reason"], str) else ""
        rows.append(
            {
                "slide": slide_id,
                "status": row["status"],
                **{f"{stage} (s)": f"{value:.1f}" for stage, value in seconds.items()},
                "cells": "" if pd.isna(row["n_cells"]) else f"{row['n_cells']:,}",
                "verdict": row["verdict"] if isinstance(row["verdict"], str) else "",
                "reason": reason if len(reason) <= REASON_LETTERS else f"{reason[:REASON_LETTERS]}…",
            }
        )
    frame = pd.DataFrame(rows).fillna("")
    last = ["cells", "verdict", "reason"]
    frame = frame[[*frame.columns.drop(last), *last]]
    lines = [list(frame.columns), *frame.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
