"""``stdistill report``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from stdistill._cli.options import FILE, INPUT_FOLDER


@click.command()
@click.argument("run", type=INPUT_FOLDER)
@click.option("--he-image", type=FILE, help="Where the H&E is now.  [default: where it was]")
@click.option(
    "--single-file",
    is_flag=True,
    help="Write all to one file, with an H&E of a few µm per pixel, to be mailed; of a cohort the table alone.",
)
def command(run: Path, he_image: Path | None, single_file: bool) -> None:
    """Show the results of a run in a browser, without network, server or Python.

    RUN is the folder that `stdistill predict`, `run` or `evaluate` wrote, of a slide or of a cohort.

    Writes RUN/report/, of which index.html is opened by double click, or RUN/report.html. What was there before is
    replaced when all is written. Of a cohort, slides that are as they were are not written again.
    """
    from stdistill._report.cohort import write_cohort
    from stdistill._report.write import write_report
    from stdistill._runs.cohort import MANIFEST

    if not (run / MANIFEST).is_file():
        page = write_report(run, he_image=he_image, single_file=single_file)
    elif he_image is not None:
        msg = "--he-image is of one slide; give the folder of a slide of the cohort."
        raise click.UsageError(msg)
    else:
        page = write_cohort(run, single_file=single_file)
    click.echo(f"Wrote the report. Open {page} in a browser.")


def report_on(out: Path) -> None:
    """Write the report at the end of a command, which has its results also where that fails."""
    from stdistill._cli import ERRORS
    from stdistill._report.write import write_report

    try:
        page = write_report(out)
    except ERRORS as error:
        click.echo(f"No report was written ({error}). To try again: stdistill report {shlex.quote(str(out))}", err=True)
        return
    click.echo(f"Open {page} in a browser.")
