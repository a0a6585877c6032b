"""``stdistill nuclei``."""

from __future__ import annotations

from pathlib import Path

import click

from stdistill._cli.options import FILE, FOLDER, MACHINE, NUCLEI, parse_scene, with_options


@click.command()
@click.argument("slide", type=FILE)
@with_options(NUCLEI)
@with_options(MACHINE[:1])
@click.option("--out", type=FOLDER, default="nuclei", show_default=True, help="Folder to write or to go on with.")
def command(
    slide: Path,
    mpp: float | None,
    scene: str | None,
    method: str,
    nuclei: Path | None,
    nuclei_unit: str,
    device: str | None,
    out: Path,
) -> None:
    """Find the nuclei of an H&E.

    SLIDE is a file that `stdistill slide` can read. Nuclei are looked for within its tissue. Writes nuclei.zarr (a
    SpatialData with outlines in µm and a table of their measures, without the image; sd.pp.attach_slide attaches it),
    nuclei.geojson.gz (the same as QuPath's detections; pixels count from the corner of the slide's bounds, where it has
    some) and manifest.json. Finished tiles are kept in tiles/: the same command goes on from the folder after a kill.
    SLIDE is never changed.
    """
    from stdistill import pp
    from stdistill._flows.nuclei import find_nuclei, write_nuclei
    from stdistill._runs.folder import Run
    from stdistill._support.files import digest_file
    from stdistill._table import schema

    run = Run(
        out,
        command="nuclei",
        parameters={
            "mpp": mpp,
            "scene": scene,
            "method": method,
            "nuclei_sha256": None if nuclei is None else digest_file(nuclei),
            "nuclei_unit": nuclei_unit,
        },
        asked={"slide": slide, "nuclei": nuclei, "device": device},
    )
    with run:
        found = pp.read_slide(slide, mpp=mpp, scene=parse_scene(scene))
        find_nuclei(run, found, method=method, nuclei=nuclei, nuclei_unit=nuclei_unit, device=device)
        write_nuclei(run, found)
    table = found.tables[schema.TABLE]
    area = table.obs["area_um2"].median()
    of_size = "" if area != area else f", of {area:.0f} µm² (median)"
    click.echo(f"\n{table.n_obs:,} nuclei{of_size}.")
    click.echo(f"Wrote nuclei.zarr and nuclei.geojson.gz to {out}.")
