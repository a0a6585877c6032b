"""``stdistill demo``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="demo", show_default=True, help="Folder to write.")
@click.option("--n-cells", type=click.IntRange(min=1000), default=10_000, show_default=True, help="Cells on the slide.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which tissue to simulate.")
def command(out: Path, n_cells: int, seed: int) -> None:
    """Simulate a Xenium slide, fit teacher and student, and draw the niches.

    Writes the bundle (outs/) and the true niches beside it, the H&E features (features/), the table of cells
    (cells.h5ad), the student (student/) and figures.
    """
    if out.exists():
        msg = f"{out} exists already: remove it, or choose another folder with --out."
        raise click.ClickException(msg)
    from stdistill._flows.demo import run_demo

    table = run_demo(out, n_cells=n_cells, seed=seed)
    click.echo(f"\nOn the strip that was held out:\n{table.to_string(index=False, float_format='%.3f')}")
    click.echo(f"Wrote {out / 'cells.h5ad'}, {out / 'student'} and the figures beside them.")
