"""``experiment.xenium``: what a bundle says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stdistill.datasets._simulation.painting.frames import PIXEL_SIZE_UM
from stdistill.datasets._simulation.writing.masks import CELLS_ZARR
from stdistill.datasets._simulation.writing.tables import Measured

EXPERIMENT = "experiment.xenium"
_RUN_NAME = "stdistill simulation"
"""Marks a bundle as one that may be overwritten."""


def write_experiment(folder: Path, measured: Measured, transcript_counts: npt.NDArray[np.int64]) -> None:
    """Write ``experiment.xenium``; ``transcript_counts`` has the molecules of genes in each cell."""
    layout, section = measured.layout, measured.section
    area = float(measured.summary["cell_area"].sum())
    images = {"morphology_focus_filepath": layout.dapi[-1]}
    if len(layout.dapi) > 1:
        images["morphology_mip_filepath"] = layout.dapi[0]
    specs = {
        "major_version": layout.major_version,
        "minor_version": 0,
        "patch_version": 0,
        "run_name": _RUN_NAME,
        "region_name": "simulated",
        "preservation_method": "ffpe",
        "num_cells": len(section.cells),
        "transcripts_per_cell": float(np.median(transcript_counts)),
        "transcripts_per_100um": float(transcript_counts.sum() / area * 100),
        "total_cell_area": area,
        "panel_name": "simulated",
        "panel_organism": "Human",
        "panel_tissue_type": "simulated",
        "panel_num_targets_predesigned": len(section.cell_types.genes),
        "panel_num_targets_custom": 0,
        "pixel_size": PIXEL_SIZE_UM,
        "z_step_size": 3.0,
        "instrument_sn": "simulated",
        "analysis_sw_version": layout.software,
        "images": images,
        "xenium_explorer_files": {"cells_zarr_filepath": CELLS_ZARR},
    }
    (folder / EXPERIMENT).write_text(json.dumps(specs, indent=4))


def is_simulated(folder: Path) -> bool:
    """Whether a folder is a bundle that was written here."""
    try:
        specs = json.loads((folder / EXPERIMENT).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(specs, dict) and specs.get("run_name") == _RUN_NAME
