"""All files of a Xenium output bundle."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stdistill.datasets._simulation.biology.cell_types import draw_cell_types
from stdistill.datasets._simulation.biology.expression import GENE_EXPRESSION, draw_expression
from stdistill.datasets._simulation.biology.niches import draw_niches
from stdistill.datasets._simulation.painting.dapi import DapiPainter
from stdistill.datasets._simulation.painting.frames import PIXEL_SIZE_UM, draw_alignment
from stdistill.datasets._simulation.painting.he import HePainter
from stdistill.datasets._simulation.painting.scanner import draw_scanner, usual_scanner
from stdistill.datasets._simulation.painting.stain import draw_stain
from stdistill.datasets._simulation.painting.unevenness import draw_unevenness
from stdistill.datasets._simulation.tissue.section import draw_section
from stdistill.datasets._simulation.writing.experiment import write_experiment
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


class _Streams(NamedTuple):
    """One stream of random numbers a part, so that a change to one leaves the others as they are."""

    biology: np.random.SeedSequence
    section: np.random.SeedSequence
    identifiers: np.random.SeedSequence
    molecules: np.random.SeedSequence
    stain: np.random.SeedSequence
    he: np.random.SeedSequence
    dapi: np.random.SeedSequence
    scan: np.random.SeedSequence
    groups: np.random.SeedSequence
    scanner: np.random.SeedSequence
    unevenness: np.random.SeedSequence

    @classmethod
    def of(cls, seed: int) -> _Streams:
        """Split a seed; a stream that is added at the end leaves the others as they are."""
        return cls(*np.random.SeedSequence(seed).spawn(len(cls._fields)))


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
    stain_seed: int | None,
    scanner_seed: int | None,
) -> None:
    """Draw a section and write it to an empty folder, and what is true about it to ``truth``."""
    streams = _Streams.of(seed)
    layout = LAYOUTS[xoa_version]
    rng = np.random.default_rng(streams.biology)
    cell_types = draw_cell_types(rng, n_cell_types)
    niches = draw_niches(rng, n_niches, cell_types)
    expression = draw_expression(rng, cell_types, niches)
    section = draw_section(streams.section, n_cells, niches, cell_types, one_nucleus=not layout.has_polygon_sets)
    measured = Measured(section, layout, _cell_id_prefix(np.random.default_rng(streams.identifiers), n_cells))
    tissue = section.tissue
    alignment = draw_alignment(np.random.default_rng(streams.scan), tissue.width_um, tissue.height_um, he_mpp)

    counts = write_molecules(folder, streams.molecules, measured, expression)
    write_cells(folder, measured, counts)
    write_boundaries(folder, measured)
    write_cells_zarr(folder, measured)
    write_cell_groups(folder / "simulated_cell_groups.csv", np.random.default_rng(streams.groups), measured)
    write_pathology(folder / "simulated_pathology.geojson", section, alignment)
    np.savetxt(folder / "simulated_he_imagealignment.csv", alignment.matrix, delimiter=",", fmt="%.12g")
    write_experiment(folder, measured, counts[GENE_EXPRESSION])
    write_truth(truth, measured)

    dapi_painter = DapiPainter(np.random.default_rng(streams.dapi), section, PIXEL_SIZE_UM)
    for name in layout.dapi:
        (folder / name).parent.mkdir(exist_ok=True)
        write_pyramid(
            folder / name,
            scratch,
            dapi_painter.paint,
            measured.image_shape,
            np.uint16,
            PIXEL_SIZE_UM,
            channel="DAPI",
            compression="zlib",
            compressionargs={"level": 1},
            predictor=True,
        )
    rng = np.random.default_rng(streams.stain)
    stain, scanner = draw_stain(rng), usual_scanner(rng)
    if stain_seed is not None:
        stain = draw_stain(np.random.default_rng(_Streams.of(stain_seed).stain))
    if scanner_seed is not None:
        scanner = draw_scanner(np.random.default_rng(_Streams.of(scanner_seed).scanner))
    unevenness = draw_unevenness(np.random.default_rng(streams.unevenness), section)
    he_painter = HePainter(np.random.default_rng(streams.he), section, stain, unevenness, scanner, alignment.to_um)
    write_pyramid(
        folder / "simulated_he_image.ome.tif",
        scratch,
        he_painter.paint,
        (*alignment.shape, 3),
        np.uint8,
        he_mpp,
        channel="H&E",
        compression="jpeg",
        compressionargs={"level": scanner.jpeg_quality},
        photometric="rgb",
    )


def _cell_id_prefix(rng: np.random.Generator, n_cells: int) -> npt.NDArray[np.uint32]:
    """Draw ascending numbers without repeats: one from each of as many equal ranges."""
    width = (1 << 32) // n_cells
    return (np.arange(n_cells, dtype=np.int64) * width + rng.integers(0, width, n_cells)).astype(np.uint32)
