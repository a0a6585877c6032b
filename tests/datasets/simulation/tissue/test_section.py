"""The section: exactly as many cells as asked for, in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree

from stdistill.datasets._simulation.biology.cell_types import draw_cell_types
from stdistill.datasets._simulation.biology.niches import Niches, draw_niches
from stdistill.datasets._simulation.tissue import section as section_module
from stdistill.datasets._simulation.tissue.anatomy import STEP_UM
from stdistill.datasets._simulation.tissue.section import Section, draw_section
from stdistill.datasets._simulation.tissue.tissue import Tissue, draw_tissue


def niches_of(seed: int = 0) -> Niches:
    return draw_niches(np.random.default_rng(seed), 8, draw_cell_types(np.random.default_rng(seed), 16))


@pytest.mark.parametrize("n_cells", [100, 333, 1500])
def test_exactly_as_many_cells_as_asked_for(n_cells: int) -> None:
    niches, types = niches_of(), draw_cell_types(np.random.default_rng(0), 16)
    section = draw_section(np.random.SeedSequence(1), n_cells, niches, types, one_nucleus=True)
    assert len(section.cells) == len(section.cells.nuclei) == n_cells


def test_every_seed_ends_with_a_fair_amount_of_tissue() -> None:
    densities = []
    for seed in range(25):
        niches, types = niches_of(seed), draw_cell_types(np.random.default_rng(seed), 16)
        section = draw_section(np.random.SeedSequence(seed), 300, niches, types, one_nucleus=True)
        covered = np.mean(section.tissue.outline > section.outline_level)
        assert 0.3 < covered < 0.95
        densities.append(300 / (np.sum(section.anatomy.clearance >= 0) * (STEP_UM / 1000) ** 2))
    assert 3000 < np.median(densities) < 6000


@pytest.mark.parametrize("crowd", [0, 100_000])
def test_gives_up_when_no_slide_fits(monkeypatch: pytest.MonkeyPatch, crowd: int) -> None:
    """Rather than draw slides for ever, smaller and smaller or larger and larger."""
    areas = []

    def place(_: object, tissue: Tissue, *__: object) -> np.ndarray:
        areas.append(tissue.width_um * tissue.height_um)
        return np.zeros((crowd, 6))

    def draw(_: object, __: object, area: float) -> Tissue:
        return dataclasses.replace(real, width_um=area, height_um=1.0)

    types, niches = draw_cell_types(np.random.default_rng(0), 16), niches_of()
    real = draw_tissue(np.random.default_rng(0), niches, 200.0**2)
    monkeypatch.setattr(section_module, "draw_tissue", draw)
    monkeypatch.setattr(section_module, "draw_anatomy", lambda *_: None)
    monkeypatch.setattr(section_module, "place_cells", place)
    with pytest.raises(
        RuntimeError, match=f"No slide for 300 cells was found in 20 tries.*holds {crowd}.*another seed"
    ):
        draw_section(np.random.SeedSequence(0), 300, niches, types, one_nucleus=True)
    assert len(areas) == 20
    assert (areas[1] > areas[0]) == (crowd == 0)


def test_niches_differ_in_density(section: Section) -> None:
    cells = section.cells
    nearest = cKDTree(np.c_[cells.x, cells.y]).query(np.c_[cells.x, cells.y], k=6)[0][:, 5]
    by_niche = [np.median(nearest[cells.niche == n]) for n in range(8) if (cells.niche == n).sum() > 30]
    assert max(by_niche) > 1.4 * min(by_niche)


def test_neighbours_in_space_are_neighbours_in_the_arrays(section: Section) -> None:
    cells = section.cells
    step = np.hypot(np.diff(cells.x), np.diff(cells.y))
    assert np.median(step) < 200


def test_one_seed_draws_the_same_twice(section: Section, make_section: Callable[..., Section]) -> None:
    again = make_section(3)
    for field in ("x", "y", "niche", "cell_type", "outline", "n_nuclei"):
        np.testing.assert_array_equal(getattr(section.cells, field), getattr(again.cells, field))
