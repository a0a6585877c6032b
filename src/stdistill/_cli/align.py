"""``stdistill align``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stdistill._cli.options import (
    ENCODER,
    EPOCHS,
    EXPRESSION_EPOCHS,
    FOLDER,
    HE,
    INPUT_FOLDER,
    MACHINE,
    SEED,
    with_options,
)

if TYPE_CHECKING:
    from stdistill.models.alignment.arguments import Edges, Scale

SCALES = ("micro", "meso", "macro")


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=INPUT_FOLDER)
@with_options(HE)
@with_options(ENCODER)
@click.option("--tile-px", type=click.IntRange(min=4), default=256, show_default=True, help="Side of a tile in pixels.")
@click.option(
    "--mpp", type=click.FloatRange(min=0, min_open=True), default=0.5, show_default=True, help="Their µm per pixel."
)
@click.option(
    "--min-cells", type=click.IntRange(min=1), default=10, show_default=True, help="Cells of a tile at least."
)
@click.option(
    "--scale",
    "scales",
    type=click.Choice(SCALES),
    multiple=True,
    default=SCALES,
    show_default=True,
    help="What is aligned: 4 × 4 places of a tile, 2 × 2, or the whole; may be given several times.",
)
@click.option(
    "--edges",
    type=click.Choice(["stochastic", "all", "none"]),
    default="stochastic",
    show_default=True,
    help="Which edges between cells of different places are added.",
)
@EXPRESSION_EPOCHS
@click.option("--epochs", type=EPOCHS, help="Of the alignment.  [default: by the number of tiles, 20 to 200]")
@SEED
@with_options(MACHINE)
@click.option("--out", type=FOLDER, default="alignment", show_default=True, help="Folder to write or to go on with.")
def command(
    bundles: tuple[Path, ...],
    he_image: Path | None,
    he_alignment: Path | None,
    encoder: str,
    tile_px: int,
    mpp: float,
    min_cells: int,
    scales: tuple[Scale, ...],
    edges: Edges,
    expression_epochs: int | None,
    epochs: int | None,
    seed: int,
    device: str | None,
    devices: int,
    out: Path,
) -> None:
    """Bring tiles of the H&E and the cells under them into one space.

    BUNDLES are Xenium bundles with an H&E, one or several of one tissue. A strip of each is held out, on which the
    alignment is measured beside ridge regression, CCA and linear contrast.

    Writes tiles and cells with their embeddings (tiles.h5ad, cells.h5ad), the models of the alignment and of the
    expression (aligned/, X_scVI/), how often either side of a tile finds the other (retrieval.csv) and what the H&E
    tells of genes (expression_probe.csv), figures (tiles.png, retrieval.png, training.png), the features (features/)
    and manifest.json. Of several bundles names end in _0, _1, ... The same command goes on from the folder after a
    kill.
    """
    named = {"--he-image": he_image, "--he-alignment": he_alignment}
    given = [name for name, value in named.items() if value is not None]
    if given and len(bundles) > 1:
        msg = f"{given[0]} goes with one bundle; there are {len(bundles)}, whose H&E are found in them."
        raise click.UsageError(msg)
    from stdistill._flows.align import Asked, align_slides
    from stdistill._runs.folder import Run
    from stdistill._runs.prepare import Machine, Source
    from stdistill._runs.tables import format_recall

    asked = Asked(encoder, tile_px, mpp, min_cells, scales, edges, expression_epochs, epochs, seed)
    machine = Machine(device, devices)
    run = Run(
        out,
        command="align",
        parameters={"n_bundles": len(bundles), **asked._asdict()},
        asked={"bundles": list(bundles), **named, **machine._asdict()},
    )
    with run:
        sources = [Source(bundle, he_image, he_alignment) for bundle in bundles]
        recall, probe = align_slides(run, sources, asked, machine)
    told = probe.query("gene == 'all'").drop(columns="gene").to_string(index=False, float_format="%.3f")
    click.echo(f"\nRecall of partners:\n{format_recall(recall)}\n\nGenes told by ridge regression:\n{told}\n")
    click.echo(f"Wrote tiles, cells, the models and figures to {out}.")
