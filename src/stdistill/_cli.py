"""The command ``stdistill``."""

from __future__ import annotations

import logging
from pathlib import Path

import click


@click.group()
@click.version_option(package_name="stdistill")
def main() -> None:
    """Distil spatial transcriptomics into histology."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default="demo", show_default=True, help="Folder to write.")
@click.option("--n-cells", type=click.IntRange(min=1000), default=20_000, show_default=True, help="Cells on the slide.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which tissue to simulate.")
def demo(out: Path, n_cells: int, seed: int) -> None:
    """Simulate a Xenium slide with its H&E, read it, split it and connect its cells.

    Writes the bundle (outs/), the true niches beside it, and the table of cells (cells.h5ad).
    """
    if out.exists():
        msg = f"{out} exists already: remove it, or choose another folder with --out."
        raise click.ClickException(msg)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("stdistill").setLevel(logging.INFO)
    import stdistill as sd

    click.echo(f"Simulating {n_cells} cells in {out / 'outs'} …")
    bundle = sd.datasets.simulate_xenium(out / "outs", n_cells=n_cells, seed=seed)
    slide = sd.pp.read_xenium(bundle)
    sd.pp.split_strips(slide)
    sd.pp.neighborhoods(slide)
    slide["table"].write_h5ad(out / "cells.h5ad")
    click.echo(f"{slide['table']}\nWrote {out / 'cells.h5ad'}.")
