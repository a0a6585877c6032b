"""``stdistill predict``."""

from __future__ import annotations

from pathlib import Path

import click

from stdistill._cli.options import BATCH_SIZE, FOLDER, HE, MACHINE, REMOTE_CODE, with_options


@click.command()
@click.argument("student", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@with_options(HE)
@click.option(
    "--encoder",
    help="The student's encoder, where it has another name on this machine, such as a folder with a copy "
    "(local-dir:PATH).  [default: by its own name]",
)
@REMOTE_CODE
@with_options(MACHINE)
@with_options([BATCH_SIZE])
@click.option("--out", type=FOLDER, default="prediction", show_default=True, help="Folder to write or to go on with.")
def command(
    student: Path,
    data: Path,
    he_image: Path | None,
    he_alignment: Path | None,
    encoder: str | None,
    device: str | None,
    devices: int,
    batch_size: int | None,
    out: Path,
) -> None:
    """Map the niches of a slide by a saved student.

    STUDENT is the folder of a saved student, as `stdistill run` writes it. DATA is a Xenium bundle, of which the H&E
    and the places of the cells are used; or an h5ad with H&E features under the student's key and cell centres in µm in
    .obsm["spatial"]. Features of a bundle are computed as the student's were.

    Writes the table of cells with their niches (niches.h5ad, without counts and features), figures (niches.png,
    confidence.png), manifest.json and, of a bundle, the H&E features (features/). The same command goes on from the
    folder after a kill; DATA is never changed. In a table with a split, cells of the buffer get no niche.
    """
    in_bundle = {"--he-image": he_image, "--he-alignment": he_alignment, "--encoder": encoder}
    given = [name for name, value in in_bundle.items() if value is not None]
    if given and data.is_file():
        msg = f"{' and '.join(given)} go with a Xenium bundle; {data} is a file, whose features are there already."
        raise click.UsageError(msg)
    from stdistill._flows.predict import load_student, map_niches, read_bundle, read_table
    from stdistill._runs.folder import Run
    from stdistill._runs.prepare import Machine, Source
    from stdistill._support.files import digest_file
    from stdistill.models.saved import CARD

    model = load_student(student)
    run = Run(
        out,
        command="predict",
        parameters={"student_sha256": digest_file(student / CARD)},
        asked={
            "student": student,
            "data": data,
            "he_image": he_image,
            "he_alignment": he_alignment,
            "encoder": encoder,
            "device": device,
            "devices": devices,
            "batch_size": batch_size,
        },
    )
    with run:
        machine = Machine(device, devices)
        if data.is_dir():
            cells = read_bundle(run, Source(data, he_image, he_alignment), model.card, encoder, machine)
        else:
            cells = read_table(data, model.card)
        niches = map_niches(run, cells, model, machine, batch_size)
    confidence = niches.obs["student_confidence"].dropna()
    click.echo(
        f"\n{len(confidence):,} of {niches.n_obs:,} cells have a niche. Median confidence {confidence.median():.2f}; "
        f"{(confidence < 0.5).mean():.0%} of them are below 0.5."
    )
    click.echo(f"Wrote niches.h5ad, niches.png and confidence.png to {out}.")
