"""All files of a Xenium output bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stdistill.datasets._simulation.biology.cell_types import draw_cell_types
from stdistill.datasets._simulation.biology.expression import draw_expression
from stdistill.datasets._simulation.biology.niches import draw_niches
from stdistill.datasets._simulation.painting.dapi import DapiPainter
from stdistill.datasets._simulation.painting.frames import PIXEL_SIZE_UM, draw_alignment
from stdistill.datasets._simulation.painting.he import HePainter
from stdistill.datasets._simulation.painting.stain import draw_stain
from stdistill.datasets._simulation.tissue.section import draw_section
from stdistill.datasets._simulation.writing.images import write_pyramid
from stdistill.datasets._simulation.writing.layout import LAYOUTS
from stdistill.datasets._simulation.writing.masks import write_cells_zarr
from stdistill.datasets._simulation.writing.molecules import write_molecules
from stdistill.datasets._simulation.writing.pathology import write_pathology
from stdistill.datasets._simulation.writing.tables import (
    Measured,
    write_boundaries,
    write_cell_groups,
    write_cells,
    write_truth,
)

RUN_NAME = "stdistill simulation"
"""Marks a bundle as one that may be overwritten."""


def write_bundle(
    folder: Path,
    truth: Path,
    scratch: Path,
    *,
    n_cells: int,
    seed: int,
    xoa_version: str,
    n_niches: int,
    n_cell_types: int,
    he_mpp: float,
) -> None:
    """Draw a section and write it to an empty folder, and what is true about it to ``truth``."""
    # One stream a part, so that a change to one leaves the others as they are.
    streams = np.random.SeedSequence(seed).spawn(9)
    biology, layout_of_cells, identifiers, molecules, stain, he, dapi, scan, groups = streams
    layout = LAYOUTS[xoa_version]
    rng = np.random.default_rng(biology)
    cell_types = draw_cell_types(rng, n_cell_types)
    niches = draw_niches(rng, n_niches, cell_types)
    expression = draw_expression(rng, cell_types, niches)
    section = draw_section(layout_of_cells, n_cells, niches, cell_types, one_nucleus=not layout.has_polygon_sets)
    measured = Measured(section, layout, _cell_id_prefix(np.random.default_rng(identifiers), n_cells))
    tissue = section.tissue
    alignment = draw_alignment(np.random.default_rng(scan), tissue.width_um, tissue.height_um, he_mpp)

    counts = write_molecules(folder, molecules, measured, expression)
    write_cells(folder, measured, counts)
    write_boundaries(folder, measured)
    write_cells_zarr(folder / "cells.zarr.zip", measured)
    write_cell_groups(folder / "simulated_cell_groups.csv", np.random.default_rng(groups), measured)
    write_pathology(folder / "simulated_pathology.geojson", section, alignment)
    np.savetxt(folder / "simulated_he_imagealignment.csv", alignment.matrix, delimiter=",", fmt="%.12g")
    _write_experiment(folder / "experiment.xenium", measured, counts["Gene Expression"])
    write_truth(truth, measured)

    dapi_painter = DapiPainter(np.random.default_rng(dapi), section, PIXEL_SIZE_UM)
    for name in layout.dapi:
        (folder / name).parent.mkdir(exist_ok=True)
        write_pyramid(
            folder / name, scratch, dapi_painter.paint, measured.image_shape, np.uint16, PIXEL_SIZE_UM,
            channel="DAPI", compression="zlib", compressionargs={"level": 1}, predictor=True,
        )  # fmt: skip
    colours = draw_stain(np.random.default_rng(stain))
    he_painter = HePainter(np.random.default_rng(he), section, colours, alignment.to_um)
    write_pyramid(
        folder / "simulated_he_image.ome.tif", scratch, he_painter.paint, (*alignment.shape, 3), np.uint8, he_mpp,
        channel="H&E", compression="jpeg", compressionargs={"level": 90}, photometric="rgb",
    )  # fmt: skip


def _cell_id_prefix(rng: np.random.Generator, n_cells: int) -> npt.NDArray[np.uint32]:
    """Draw ascending numbers without repeats: one from each of as many equal ranges."""
    width = (1 << 32) // n_cells
    return (np.arange(n_cells, dtype=np.int64) * width + rng.integers(0, width, n_cells)).astype(np.uint32)


def _write_experiment(path: Path, measured: Measured, transcript_counts: npt.NDArray[np.int64]) -> None:
    layout, section = measured.layout, measured.section
    area = float(measured.summary["cell_area"].sum())
    images = {"morphology_focus_filepath": layout.dapi[-1]}
    if len(layout.dapi) > 1:
        images["morphology_mip_filepath"] = layout.dapi[0]
    specs = {
        "major_version": layout.major_version,
        "minor_version": 0,
        "patch_version": 0,
        "run_name": RUN_NAME,
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
        "xenium_explorer_files": {"cells_zarr_filepath": "cells.zarr.zip"},
    }
    path.write_text(json.dumps(specs, indent=4))
