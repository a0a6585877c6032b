"""Stages that measure, draw and write what was found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from stages.inputs import Inputs

import stdistill as sd
from stdistill._report.write import write_report


def measures(inputs: Inputs) -> Callable[[], object]:
    """Compare all methods with the teacher, by their niches and by the cell types in these."""
    cells = inputs.cells()

    def measure() -> None:
        sd.tl.agreement(cells)
        sd.tl.composition_jsd(cells, cell_type_key="cell_type")

    return measure


def plots(inputs: Inputs) -> Callable[[], object]:
    """Draw the maps of teacher and student."""
    cells = inputs.cells()

    def draw() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sd.pl.niches(cells, save=Path(folder) / "niches.png")

    return draw


def report(inputs: Inputs) -> Callable[[], object]:
    """Write the report of a run, with tiles of the H&E and of all layers."""
    return lambda: write_report(inputs.folder / "run")


def geojson(inputs: Inputs) -> Callable[[], object]:
    """Write the outlines of all cells with their niches, packed."""
    slide = inputs.slide()

    def write() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sd.io.to_geojson(slide, Path(folder) / "cells.geojson.gz", key="student_niche")

    return write
