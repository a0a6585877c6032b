"""Stages that look at a slide: which cells are neighbours, and what the H&E shows around each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from stages.inputs import Inputs

import stdistill as sd


def graph(inputs: Inputs) -> Callable[[], object]:
    """Find the neighbourhoods, and their radius."""
    cells = inputs.cells()
    return lambda: sd.pp.neighborhoods(cells)


def features(inputs: Inputs) -> Callable[[], object]:
    """Read the H&E from disk, and describe it around each cell."""
    slide = inputs.slide()
    del slide["table"].obsm["X_he"]

    def embed() -> None:
        with tempfile.TemporaryDirectory(dir=inputs.folder) as folder:
            sd.pp.embed_he(slide, encoder="texture", device="cpu", store=Path(folder) / "store")

    return embed
