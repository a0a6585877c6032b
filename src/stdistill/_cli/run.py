"""``stdistill run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stdistill._cli.options import FOLDER, MACHINE, SLIDE, TRAINING, with_options
from stdistill._cli.report import report_on

if TYPE_CHECKING:
    from stdistill._training.arguments import Standardization

DEFAULTS = {"n_augmented": 0, "standardize": "slide"}
"""What students see other slides by (docs/concepts/transfer)."""


@click.command()
@with_options(SLIDE)
@click.option("--k", type=click.IntRange(min=2), default=20, show_default=True, help="Number of niches.")
@click.option(
    "--n-augmented",
    type=click.IntRange(min=0),
    default=DEFAULTS["n_augmented"],
    show_default=True,
    help="How often the features are computed once more as another laboratory would show the slide, so that a student "
    "that compares with the training knows other stains and scanners.",
)
@click.option(
    "--standardize",
    type=click.Choice(["slide", "training"]),
    default=DEFAULTS["standardize"],
    show_default=True,
    help="What the student compares a cell with: all cells of its own slide, which takes stains and scanners away, or "
    "those of the training, for slides that hold other parts of the tissue, such as small biopsies.",
)
@with_options(TRAINING)
@with_options(MACHINE)
@click.option("--out", type=FOLDER, default="run", show_default=True, help="Folder to write or to go on with.")
def command(
    bundle: Path,
    he_image: Path | None,
    he_alignment: Path | None,
    cell_types: Path | None,
    encoder: str,
    k: int,
    n_augmented: int,
    standardize: Standardization,
    expression_epochs: int | None,
    teacher_epochs: int | None,
    student_epochs: int | None,
    size: str | None,
    batch_size: int | None,
    precision: str | None,
    seed: int,
    device: str | None,
    devices: int,
    out: Path,
) -> None:
    """Fit a teacher and its student to a Xenium slide, and map its niches.

    Writes the table of the cells of BUNDLE with the niches of both (cells.h5ad), the models (teacher/, student/), their
    agreement (agreement.csv), figures (niches.png, .pdf; training.png), the H&E features (features/), manifest.json,
    and a report that is opened by double click (report/index.html).
    The same command goes on from the folder after a kill.
    """
    from stdistill._flows.run import fit_niches
    from stdistill._runs.folder import Run
    from stdistill._runs.prepare import Machine, Source, Training

    source = Source(bundle, he_image, he_alignment, cell_types)
    training = Training(expression_epochs, teacher_epochs, student_epochs, seed, size, batch_size, precision)
    machine = Machine(device, devices)
    asked = {"n_augmented": n_augmented, "standardize": standardize}
    chosen = {name: value for name, value in asked.items() if value != DEFAULTS[name]}  # older folders have none
    run = Run(
        out,
        command="run",
        parameters={"k": k, "encoder": encoder, **chosen, **training.parameters},
        asked={**source._asdict(), **machine._asdict()},
    )
    with run:
        agreement = fit_niches(
            run,
            source,
            k=k,
            encoder=encoder,
            n_augmented=n_augmented,
            standardize=standardize,
            training=training,
            machine=machine,
        )
    if agreement is not None:
        click.echo(f"\nAgreement with the teacher:\n{agreement.to_string(index=False, float_format='%.3f')}\n")
    click.echo(f"Wrote cells.h5ad, the models and figures to {out}.")
    if run.folder is not None:
        report_on(out)
