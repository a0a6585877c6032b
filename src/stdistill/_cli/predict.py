"""``stdistill predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from stdistill._cli.options import BATCH_SIZE, FOLDER, HE, MACHINE, NUCLEI, REMOTE_CODE, parse_scene, with_options
from stdistill._cli.report import report_on

WORDS = {
    "usable": "usable.",
    "partly": "usable in part, with care:",
    "not": "not usable, whatever the confidence says:",
}
NAMES = {"bundle": "a Xenium bundle", "slide": "an H&E", "table": "a table, whose features are there already"}


@click.command()
@click.argument("student", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("data", type=click.Path(path_type=Path, exists=True))
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
def command(
    student: Path,
    data: Path,
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
) -> None:
    """Map the niches of a slide by a saved student.

    STUDENT is the folder of a saved student, as `stdistill run` writes it. DATA is an H&E, any file that `stdistill
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
    """
    kind = _kind(data)
    given = {
        "--he-image": (he_image, ["bundle"]),
        "--he-alignment": (he_alignment, ["bundle"]),
        "--encoder": (encoder, ["bundle", "slide"]),
        "--mpp": (mpp, ["slide"]),
        "--scene": (scene, ["slide"]),
        "--nuclei": (nuclei, ["slide"]),
        "--nuclei-unit": (None if nuclei_unit == "px" else nuclei_unit, ["slide"]),
        "--method": (None if method == "unet" else method, ["slide"]),
    }
    for name, (value, kinds) in given.items():
        if value is not None and kind not in kinds:
            msg = f"{name} goes with {' or '.join(NAMES[one] for one in kinds)}; {data} is {NAMES[kind]}."
            raise click.UsageError(msg)
    from stdistill._flows.predict import (
        SlideFile,
        load_student,
        map_niches,
        read_bundle,
        read_image,
        read_table,
        write_slide,
    )
    from stdistill._runs.folder import Run
    from stdistill._runs.prepare import Machine, Source
    from stdistill._support.files import digest_file
    from stdistill.models.saved import CARD

    model = load_student(student)
    run = Run(
        out,
        command="predict",
        parameters={
            "student_sha256": digest_file(student / CARD),
            **_of_slide(kind, mpp, scene, method, nuclei, nuclei_unit),
        },
        asked={
            "student": student,
            "data": data,
            "he_image": he_image,
            "he_alignment": he_alignment,
            "nuclei": nuclei,
            "encoder": encoder,
            "device": device,
            "devices": devices,
            "batch_size": batch_size,
            "strict": strict,
        },
    )
    with run:
        machine = Machine(device, devices)
        if kind == "slide":
            source = SlideFile(data, mpp, parse_scene(scene), method, nuclei, nuclei_unit)
            slide = read_image(run, source, model.card, encoder, machine)
            niches, verdict = map_niches(run, slide, model, machine, batch_size, strict=strict)
            write_slide(run, slide, niches)
        elif kind == "bundle":
            slide = read_bundle(run, Source(data, he_image, he_alignment), model.card, encoder, machine)
            niches, verdict = map_niches(run, slide, model, machine, batch_size, strict=strict)
        else:
            cells = read_table(data, model.card)
            niches, verdict = map_niches(run, cells, model, machine, batch_size, strict=strict)
    confidence = niches.obs["student_confidence"].dropna()
    click.echo(f"\n{len(confidence):,} of {niches.n_obs:,} cells have a niche.")
    if len(confidence):
        click.echo(f"Median confidence {confidence.median():.2f}; {(confidence < 0.5).mean():.0%} are below 0.5.")
    click.echo(f"Verdict: {WORDS[verdict.verdict]}")
    for reason in verdict.reasons:
        click.echo(f"- {reason}")
    more = ", niches.zarr, niches.geojson.gz" if kind == "slide" else ""
    figures = ", niches.png, confidence.png" if len(confidence) else ""
    click.echo(f"Wrote niches.h5ad{more}{figures} and verdict.csv to {out}.")
    if run.folder is not None:
        report_on(out)


def _kind(data: Path) -> Literal["bundle", "table", "slide"]:
    """Tell what a path is."""
    if data.is_dir():
        return "bundle"
    import h5py

    return "table" if data.suffix == ".h5ad" or h5py.is_hdf5(data) else "slide"


def _of_slide(
    kind: str, mpp: float | None, scene: str | None, method: str, nuclei: Path | None, nuclei_unit: str
) -> dict[str, float | str | None]:
    """Return what tells a run on an H&E alone from another."""
    if kind != "slide":
        return {}
    from stdistill._support.files import digest_file

    sha256 = None if nuclei is None else digest_file(nuclei)
    return {"mpp": mpp, "scene": scene, "method": method, "nuclei_sha256": sha256, "nuclei_unit": nuclei_unit}
