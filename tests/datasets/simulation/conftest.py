from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stdistill.datasets._simulation.biology.cell_types import draw_cell_types
from stdistill.datasets._simulation.biology.niches import draw_niches
from stdistill.datasets._simulation.tissue.section import Section, draw_section


@pytest.fixture(scope="session")
def make_section() -> Callable[[int], Section]:
    def make(seed: int) -> Section:
        rng = np.random.default_rng(seed)
        types = draw_cell_types(rng, 16)
        niches = draw_niches(rng, 8, types)
        return draw_section(np.random.SeedSequence(seed), 1500, niches, types, one_nucleus=False)

    return make


@pytest.fixture(scope="session")
def section(make_section: Callable[[int], Section]) -> Section:
    """A section that all tests share; none may change it."""
    return make_section(3)
