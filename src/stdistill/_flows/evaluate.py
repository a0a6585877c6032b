"""The protocol of the paper on a slide, from the bundle to tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anndata import AnnData

from stdistill._flows.figures import draw_methods
from stdistill._runs.evaluation import Asked, Evaluation
from stdistill._runs.folder import Run
from stdistill._runs.prepare import Machine, Training
from stdistill._support.files import replacing
from stdistill._table import schema
from stdistill._table.graph import NEIGHBORS
from stdistill.tl._evaluate import NAMES, niche_column, run_protocol

if TYPE_CHECKING:
    from spatialdata import SpatialData


def evaluate_slide(
    run: Run, slide: SpatialData, asked: Asked, training: Training, *, machine: Machine, encoder: str
) -> Evaluation:
    """Run the protocol, and draw the niches of all methods for each number of them."""
    evaluation = run_protocol(run, slide, asked, training, machine=machine, encoder=encoder)
    if run.folder is not None:
        for k in asked.ks:
            titles = {niche_column(prefix, k): name for prefix, name in NAMES.items()}
            draw_methods(slide, titles, run.folder / f"niches_k{k}", table_key=schema.TABLE)
        _write_niches(slide.tables[schema.TABLE], run.folder / "niches.h5ad")
    return evaluation


def _write_niches(cells: AnnData, path: Path) -> None:
    """Write the niches of all methods, without counts, features and graph."""
    uns = {name: value for name, value in cells.uns.items() if name != NEIGHBORS}
    with replacing(path) as new:
        AnnData(obs=cells.obs, obsm={schema.SPATIAL: cells.obsm[schema.SPATIAL]}, uns=uns).write_h5ad(new)
