from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from stdistill.datasets._simulation.biology.cell_types import draw_cell_types
from stdistill.datasets._simulation.biology.niches import Niches, draw_niches
from stdistill.datasets._simulation.biology.templates import TEMPLATES
from stdistill.datasets._simulation.tissue.anatomy import Anatomy, draw_anatomy
from stdistill.datasets._simulation.tissue.tissue import Tissue, draw_tissue


@pytest.fixture
def only() -> Callable[[str], tuple[Niches, Tissue, Anatomy]]:
    """A slide on which all niches are of one kind."""

    def make(kind: str) -> tuple[Niches, Tissue, Anatomy]:
        types = draw_cell_types(np.random.default_rng(0), 16)
        niches = draw_niches(np.random.default_rng(0), len(TEMPLATES), types)
        index = np.full(len(niches.names), niches.names.index(kind))
        niches = dataclasses.replace(
            niches,
            density=niches.density[index],
            composition=niches.composition[index],
            structure={name: values[index] for name, values in niches.structure.items()},
        )
        tissue = draw_tissue(np.random.default_rng(0), niches, 900.0**2)
        return niches, tissue, draw_anatomy(np.random.default_rng(1), tissue, niches)

    return make
