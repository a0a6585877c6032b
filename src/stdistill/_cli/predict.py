"""``stdistill predict``."""

from __future__ import annotations

from pathlib import Path

import click

from stdistill._cli.cohort.predicting import COHORT, COHORT_OPTIONS, Spread, map_cohort
from stdistill._cli.options import (
    BATCH_SIZE,
    FOLDER,
    HE,
    MACHINE,
    NUCLEI,
    REMOTE_CODE,
    STUDENT,
    parse_scene,
    with_options,
)
from stdistill._cli.report import report_on

NAMES = {"bundle": "a Xenium bundle", "slide": "an H&E", "table": "a table, whose features are there already"}


@click.command()
@STUDENT
@click.argument("data", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True, metavar="DATA...")
@with_options(HE)
@with_options(NUCLEI)
@click.option(
    "--encoder",
    help="The student's encoder, where it has another name on this machine, such as a folder with a copy "
    "(local-dir:PATH).  [default: by its own name]",
)
@REMOTE_CODE
@with_options(MACHINE)
@with_options([BATCH_SIZE])
@click.option("--strict", is_flag=True, help="Give no niche to cells that are not to be trusted.")
@click.option("--out", type=FOLDER, default="prediction", show_default=True, help="Folder to write or to go on with.")
@with_options(COHORT_OPTIONS)
@click.pass_context
def command(
    ctx: click.Context,
    student: Path,
    data: tuple[Path, ...],
    he_image: Path | None,
    he_alignment: Path | None,
    mpp: float | None,
    scene: str | None,
    method: str,
    nuclei: Path | None,
    nuclei_unit: str,
    encoder: str | None,
    device: str | None,
    devices: int,
    batch_size: int | None,
    strict: bool,
    out: Path,
    shard: tuple[int, int] | None,
    only: tuple[str, ...],
    retry_failed: bool,
    stage: Path | None,
    workers: int,
) -> None:
    """Map the niches of slides by a saved student.

    STUDENT is the folder of a saved student, as `stdistill run` writes it, or a student on the Hugging Face hub,
    hf:OWNER/NAME or hf:OWNER/NAME@REVISION. DATA is an H&E, any file that `stdistill
    slide` can read, whose nuclei are found first; a Xenium bundle, of which the H&E and the places of the cells are
    used; or an h5ad with H&E features under the student's key and cell centres in µm in .obsm["spatial"]. Features of
    an H&E and of a bundle are computed as the student's were.

    Whether the niches are to be believed is judged last, and said with reasons. A report is opened by double click
    (report/index.html).

    Writes the table of cells with their niches (niches.h5ad, without counts and features), figures (niches.png,
    confidence.png), what the verdict is based on (verdict.csv), manifest.json and, of an H&E and a bundle, the features
    (features/). Of an H&E also the nuclei,
    found tile by tile (tiles/), their outlines with the niches as SpatialData without the image (niches.zarr) and as
    QuPath's detections (niches.geojson.gz). The same command goes on from the folder after a kill; DATA is never
    changed. In a table with a split, cells of the buffer get no niche.

    Several DATA, a folder of H&E, or a CSV with a column slide (and perhaps mpp, nuclei, group, patient and others) are
    a cohort: the results of each slide appear in a folder of their own, slides/ID in that of --out, when all of them
    are there, and status.csv says what became of each. Any number of processes on any number of machines may run the
    same command at once; a slide is worked on by one of them. What is broken does not stop the others, and is said at
    the end, with exit code 1.
    """
    from stdistill._formats.slides.listing import find_kind, names_several

    spread = Spread(shard, only, retry_failed, stage, workers)
    is_cohort = len(data) > 1 or spread != Spread() or names_several(data[0]) or (out / COHORT).is_file()
    kind = None if is_cohort else find_kind(data[0])
    given: dict[str, tuple[object, list[str | None]]] = {
        "--he-image": (he_image, ["bundle"]),
        "--he-alignment": (he_alignment, ["bundle"]),
        "--encoder": (encoder, ["bundle", "slide", None]),
        "--mpp": (mpp, ["slide", None]),
        "--scene": (scene, ["slide", None]),
        "--nuclei": (nuclei, ["slide"]),
        "--nuclei-unit": (None if nuclei_unit == "px" else nuclei_unit, ["slide", None]),
        "--method": (None if method == "unet" else method, ["slide", None]),
    }
    for name, (value, kinds) in given.items():
        if value is not None and kind not in kinds:
            found = "these are several slides" if kind is None else f"{data[0]} is {NAMES[kind]}"
            msg = f"{name} goes with {' or '.join(NAMES[one] for one in kinds if one is not None)}; {found}."
            raise click.UsageError(msg)
    from stdistill._flows.predict import Asked, load_student, predict
    from stdistill._measures.verdict import WORDS
    from stdistill._runs.prepare import Machine
    from stdistill._support.ranks import is_first_process

    asked = Asked(
        student,
        he_image=he_image,
        he_alignment=he_alignment,
        mpp=mpp,
        scene=parse_scene(scene),
        method=method,
        nuclei=nuclei,
        nuclei_unit=nuclei_unit,
        encoder=encoder,
        machine=Machine(device, devices),
        batch_size=batch_size,
        strict=strict,
    )
    if is_cohort:
        map_cohort(ctx, data, out, asked, spread)
        return
    niches, verdict = predict(load_student(student), data[0], out, asked)
    confidence = niches.obs["student_confidence"].dropna()
    click.echo(f"\n{len(confidence):,} of {niches.n_obs:,} cells have a niche.")
    if len(confidence):
        click.echo(f"Median confidence {confidence.median():.2f}; {(confidence < 0.5).mean():.0%} are below 0.5.")
    click.echo(f"Verdict: {WORDS[verdict.verdict]}{':' if verdict.reasons else '.'}")
    for reason in verdict.reasons:
        click.echo(f"- {reason}")
    more = ", niches.zarr, niches.geojson.gz" if kind == "slide" else ""
    figures = ", niches.png, confidence.png" if len(confidence) else ""
    click.echo(f"Wrote niches.h5ad{more}{figures} and verdict.csv to {out}.")
    if is_first_process():
        report_on(out)
