"""The protocol of the paper on a slide, from the bundle to tables and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stdistill._flows.figures import draw_methods
from stdistill._runs.evaluation import Asked, Evaluation
from stdistill._runs.folder import NICHES_FILE, Run
from stdistill._runs.prepare import Machine, Training
from stdistill._support.files import replacing
from stdistill._table import schema
from stdistill._table.niches import niches_alone
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
            draw_methods(slide, titles, run.folder / f"niches_k{k}")
        with replacing(run.folder / NICHES_FILE) as new:
            niches_alone(slide.tables[schema.TABLE]).write_h5ad(new)
    return evaluation
