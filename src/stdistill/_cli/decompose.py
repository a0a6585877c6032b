"""``stdistill decompose``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stdistill._cli.options import EPOCHS, FILE, FOLDER, HE, MACHINE, REMOTE_CODE, SEED, with_options

if TYPE_CHECKING:
    from stdistill.models.composition.arguments import Method


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@with_options(HE)
@click.option(
    "--cell-types",
    type=FILE,
    help="CSV with the columns cell_id and group, of a bundle.  [default: *cell_groups.csv in the bundle]",
)
@click.option(
    "--target",
    help="Cell types in .obs, which are counted in each neighbourhood, or abundances in .obsm.  [default: cell_type of "
    "a bundle, abundance of a table]",
)
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    default=("auto",),
    show_default=True,
    help="Encoder of the H&E of a bundle; given several times, their features are put side by side.",
)
@REMOTE_CODE
@click.option(
    "--features",
    multiple=True,
    default=("X_he",),
    show_default=True,
    help="Key of .obsm of the features of a table; may be given several times.",
)
@click.option("--group", help="Column of .obs of a table, such as patient: each group is also left out, and told.")
@click.option("--library", help="Column of .obs of a table of several slides that names them.")
@click.option(
    "--method",
    type=click.Choice(["mlp", "ridge"]),
    default="mlp",
    show_default=True,
    help="What is fitted beside ridge.",
)
@click.option("--neighbors", is_flag=True, help="Also read the mean features of the neighbourhood.")
@click.option("--epochs", type=EPOCHS, help="Of each network, at most.  [default: by the number of rows, 5 to 200]")
@SEED
@with_options(MACHINE)
@click.option("--out", type=FOLDER, default="composition", show_default=True, help="Folder to write or to go on with.")
def command(
    data: Path,
    he_image: Path | None,
    he_alignment: Path | None,
    cell_types: Path | None,
    target: str | None,
    encoders: tuple[str, ...],
    features: tuple[str, ...],
    group: str | None,
    library: str | None,
    method: Method,
    neighbors: bool,
    epochs: int | None,
    seed: int,
    device: str | None,
    devices: int,
    out: Path,
) -> None:
    """Learn to tell cell types from H&E.

    DATA is a Xenium bundle, or a table (.h5ad) with H&E features and abundances or cell types. Ridge regression is
    always fitted beside the networks.

    Writes the table with what they predict (cells.h5ad), the models (he_abundance/, ridge_abundance/), their scores on
    rows that they were not fitted on (scores.csv), figures (abundance.png, abundance_scores.png, colocalization.png),
    with --group those of each group while it was left out (cross_validation.csv), and manifest.json; of a bundle also
    the features (features/). The same command goes on from the folder after a kill.
    """
    is_bundle = data.is_dir()
    given = {"--he-image": he_image, "--he-alignment": he_alignment, "--cell-types": cell_types}
    wrong = [name for name, value in given.items() if value is not None and not is_bundle]
    if wrong or (is_bundle and (group or library)):
        name, goes_with = ("--group" if group else "--library", "a table") if is_bundle else (wrong[0], "a bundle")
        msg = f"{name} goes with {goes_with}; {data} is {'a bundle' if is_bundle else 'a table'}."
        raise click.UsageError(msg)
    from stdistill._flows.decompose import Asked, decompose_slide, read_bundle, read_table
    from stdistill._runs.folder import Run
    from stdistill._runs.prepare import Machine, Source
    from stdistill._table import schema

    target = target or (schema.CELL_TYPE if is_bundle else schema.ABUNDANCE)
    machine = Machine(device, devices)
    read = {"encoders": encoders} if is_bundle else {"features": features}
    how = {"target": target, "group": group, "library": library, "method": method, "neighbors": neighbors}
    run = Run(
        out,
        command="decompose",
        parameters={**how, **read, "epochs": epochs, "seed": seed},
        asked={"data": data, **given, **machine._asdict()},
    )
    with run:
        if is_bundle:
            source = Source(data, he_image, he_alignment, cell_types)
            slide, keys = read_bundle(run, source, encoders, machine)
            asked = Asked(target, keys, None, None, method, neighbors, epochs, seed)
            scores = decompose_slide(run, slide, asked, machine)
        else:
            table = read_table(data, features)
            asked = Asked(target, features, group, library, method, neighbors, epochs, seed)
            scores = decompose_slide(run, table, asked, machine)
    shown = scores.query("type == 'all'").drop(columns="type").to_string(index=False, float_format="%.3f")
    click.echo(f"\n{shown}\n\nWrote cells.h5ad, the models and figures to {out}.")
