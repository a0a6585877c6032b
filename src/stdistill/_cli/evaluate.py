"""``stdistill evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stdistill._cli.options import FILE, FOLDER, MACHINE, SLIDE, TRAINING, SeveralNumbers, with_options
from stdistill._cli.report import report_on

if TYPE_CHECKING:
    from stdistill._table.annotations import PolygonsUnit


@click.command(cls=SeveralNumbers)
@with_options(SLIDE)
@click.option(
    "--k",
    "ks",
    type=click.IntRange(min=2),
    multiple=True,
    default=(10, 20),
    help="Numbers of niches, one or several.  [default: 10 20]",
)
@click.option("--annotations", type=FILE, help="GeoJSON of a pathologist's annotations, as QuPath exports them.")
@click.option(
    "--polygons-unit",
    type=click.Choice(["px", "um"]),
    default="px",
    show_default=True,
    help="What the annotations are drawn in: pixels of the H&E at full resolution, as QuPath exports them, or µm.",
)
@with_options(TRAINING)
@with_options(MACHINE)
@click.option("--out", type=FOLDER, default="evaluation", show_default=True, help="Folder to write or to go on with.")
def command(
    bundle: Path,
    he_image: Path | None,
    he_alignment: Path | None,
    cell_types: Path | None,
    encoder: str,
    ks: tuple[int, ...],
    annotations: Path | None,
    polygons_unit: PolygonsUnit,
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
    """Compare a student with its teacher and plain baselines.

    The protocol of Hizmi et al. 2026 on one Xenium slide: for each number of niches, a teacher, its student, and
    baselines are fitted to three of four strips of BUNDLE, and compared on the other one. Without a teacher:
    Histology-NOLAN, Histology-Leiden and Histology-k-means. Taught by the same teacher: logistic regression on mean
    features of neighbourhoods, and a student that sees no neighbours. The column gain is the share of the gap between
    the best method without a teacher and 1 that a method closes.

    Writes tables (agreement.csv; composition_jsd.csv where there are cell types; pathology_probe.csv where there are
    annotations), figures (niches_k10.png, .pdf), the niches of all methods (niches.h5ad), the models,
    manifest.json, and a report that is opened by double click (report/index.html). The same command goes on from the
    folder after a kill.
    """
    from stdistill._flows.evaluate import evaluate_slide
    from stdistill._runs.evaluation import Asked
    from stdistill._runs.folder import Run
    from stdistill._runs.prepare import Machine, Source, Training, read_slide
    from stdistill._table import schema

    ks = tuple(dict.fromkeys(ks))
    source = Source(bundle, he_image, he_alignment, cell_types)
    training = Training(expression_epochs, teacher_epochs, student_epochs, seed, size, batch_size, precision)
    machine = Machine(device, devices)
    run = Run(
        out,
        command="evaluate",
        parameters={"encoder": encoder, **training.parameters},
        asked={
            **source._asdict(),
            **machine._asdict(),
            "ks": ks,
            "annotations": annotations,
            "polygons_unit": polygons_unit,
        },
    )
    with run:
        slide = read_slide(run, source)
        has_cell_types = schema.CELL_TYPE in slide.tables[schema.TABLE].obs
        cell_type_key = schema.CELL_TYPE if has_cell_types else None
        asked = Asked(ks, cell_type_key, polygons=annotations, polygons_unit=polygons_unit)
        evaluation = evaluate_slide(run, slide, asked, training, machine=machine, encoder=encoder)
    click.echo(f"\n{evaluation}\n\nWrote the tables, figures and models to {out}.")
    if run.folder is not None:
        report_on(out)
