"""``stdistill nuclei``."""

from __future__ import annotations

from pathlib import Path

import click

from stdistill._cli.options import FILE, FOLDER, MACHINE, with_options

METHODS = ("unet", "tree", "instanseg", "cellpose", "stardist")


@click.command()
@click.argument("slide", type=FILE)
@click.option("--mpp", type=click.FloatRange(min=0, min_open=True), help="µm per pixel.  [default: as SLIDE states]")
@click.option("--scene", help="Number or name of one of several slides in SLIDE.")
@click.option("--method", type=click.Choice(METHODS), default="unet", show_default=True, help="How they are found.")
@click.option("--nuclei", type=FILE, help="Nuclei that are known: GeoJSON, label image, Parquet or CSV.")
@click.option(
    "--nuclei-unit", type=click.Choice(["px", "um"]), default="px", show_default=True, help="What NUCLEI are in."
)
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
    from stdistill._flows.nuclei import nuclei_of_slide
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
        chosen = int(scene) if scene is not None and scene.isdecimal() else scene
        image = pp.read_slide(slide, mpp=mpp, scene=chosen)
        found = nuclei_of_slide(run, image, method=method, nuclei=nuclei, nuclei_unit=nuclei_unit, device=device)
    table = found.tables[schema.TABLE]
    area = table.obs["area_um2"].median()
    of_size = "" if area != area else f", of {area:.0f} µm² (median)"
    click.echo(f"\n{table.n_obs:,} nuclei{of_size}.")
    click.echo(f"Wrote nuclei.zarr and nuclei.geojson.gz to {out}.")
