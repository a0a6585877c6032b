"""A section of tissue with an exact number of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stdistill.datasets._simulation.biology.cell_types import CellTypes
from stdistill.datasets._simulation.biology.niches import Niches
from stdistill.datasets._simulation.tissue.anatomy import Anatomy, cut_to_outline, draw_anatomy
from stdistill.datasets._simulation.tissue.cells import Cells
from stdistill.datasets._simulation.tissue.noise import sample_many
from stdistill.datasets._simulation.tissue.placement import X, Y, place_cells
from stdistill.datasets._simulation.tissue.shapes import shape_cells
from stdistill.datasets._simulation.tissue.tissue import Tissue, draw_tissue

_AIMED_FILL = 0.66
"""Share of the slide's cells that end up in the section."""
_MAX_TRIES = 20
"""Slides drawn before giving up; up to three are needed for the seeds and sizes we tried."""
_BLOCK_UM = 200.0
"""Cells are numbered block by block, so that what is near on the slide is near on disk."""


@dataclass(frozen=True)
class Section:
    """Everything there is to know about a section before anything is measured on it."""

    tissue: Tissue
    anatomy: Anatomy
    cells: Cells
    niches: Niches
    cell_types: CellTypes
    outline_level: float
    """The tissue lies where its outline is above this."""


def draw_section(
    seed: np.random.SeedSequence, n_cells: int, niches: Niches, cell_types: CellTypes, *, one_nucleus: bool
) -> Section:
    """Draw a section with exactly ``n_cells`` cells, each with a nucleus if ``one_nucleus``."""
    area = n_cells * 1e6 / 4500 / _AIMED_FILL
    layout_seed, shape_seed = seed.spawn(2)
    for _ in range(_MAX_TRIES):
        # The same draws again on a slide of another size, until the section fills it as real ones do.
        rng = np.random.default_rng(layout_seed)
        tissue = draw_tissue(rng, niches, area)
        anatomy = draw_anatomy(rng, tissue, niches)
        placed = place_cells(rng, tissue, anatomy, niches, cell_types)
        fill = n_cells / max(len(placed), 1)
        if 0.5 < fill < 0.85:
            break
        area *= min(max(fill / _AIMED_FILL, 0.3), 3.0)
    else:
        msg = (
            f"No slide for {n_cells} cells was found in {_MAX_TRIES} tries; the last one holds {len(placed)}. "
            "Try another seed, or another number of cells."
        )
        raise RuntimeError(msg)
    height = sample_many(tissue.outline, placed[:, X] / tissue.step_um, placed[:, Y] / tissue.step_um)
    # Cutting along a contour of the outline is what makes the number of cells exact.
    order = np.argsort(-height, kind="stable")[:n_cells]
    level = float(height[order[-1]])
    cut_to_outline(anatomy, tissue, level)
    placed = placed[order]
    placed = placed[np.lexsort((placed[:, X] // _BLOCK_UM, placed[:, Y] // _BLOCK_UM))]
    cells = shape_cells(np.random.default_rng(shape_seed), placed, tissue, anatomy, cell_types, one_nucleus)
    return Section(tissue, anatomy, cells, niches, cell_types, level)
