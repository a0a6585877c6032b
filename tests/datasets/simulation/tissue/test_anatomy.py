"""Microanatomy: what each kind of niche is built of, and how far its holes are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stdistill.datasets._simulation.biology.cell_types import draw_cell_types
from stdistill.datasets._simulation.biology.niches import APICAL, BLOOD, GLAND, STROMA, VOID, Niches, draw_niches
from stdistill.datasets._simulation.tissue import anatomy as anatomy_module
from stdistill.datasets._simulation.tissue.anatomy import (
    CLEARANCE_UNIT_UM,
    STEP_UM,
    Anatomy,
    cut_to_outline,
    draw_anatomy,
)
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.tissue.tissue import Tissue, draw_tissue

MakeSlide = Callable[[str], tuple[Niches, Tissue, Anatomy]]


def test_fat_is_mostly_vacuoles_with_thin_walls(only: MakeSlide) -> None:
    _, _, anatomy = only("fat")
    assert 0.5 < np.mean(anatomy.zone == VOID) < 0.95


def test_glands_have_lumen_cytoplasm_and_nuclei(only: MakeSlide) -> None:
    _, _, anatomy = only("glands")
    for zone in (VOID, APICAL, GLAND, STROMA):
        assert np.mean(anatomy.zone == zone) > 0.02
    # Nuclei of a gland keep off its lumen.
    assert anatomy.clearance[anatomy.zone == GLAND].min() > 0


def test_stroma_has_no_epithelium(only: MakeSlide) -> None:
    _, _, anatomy = only("fibrous stroma")
    assert not np.isin(anatomy.zone, (GLAND, APICAL)).any()
    assert np.mean(anatomy.zone == STROMA) > 0.85


def test_holes_are_where_clearance_is_negative(section: Section) -> None:
    anatomy = section.anatomy
    hole = np.isin(anatomy.zone, (VOID, BLOOD))
    assert np.mean(hole == (anatomy.clearance < 0)) > 0.985


def test_clearance_is_a_distance(only: MakeSlide) -> None:
    """Away from where shapes meet, it changes by at most a step from pixel to pixel."""
    _, _, anatomy = only("glands")
    change = np.abs(np.diff(anatomy.clearance.astype(int), axis=1)) * CLEARANCE_UNIT_UM / STEP_UM
    assert np.quantile(change, 0.99) < 2


def test_cut_takes_away_what_lies_below() -> None:
    niches = draw_niches(np.random.default_rng(0), 8, draw_cell_types(np.random.default_rng(0), 16))
    tissue = draw_tissue(np.random.default_rng(0), niches, 900.0**2)
    anatomy = draw_anatomy(np.random.default_rng(0), tissue, niches)
    level = float(np.quantile(tissue.outline, 0.5))
    cut_to_outline(anatomy, tissue, level)
    rows, columns = anatomy.zone.shape
    y, x = ((np.indices((rows, columns)) + 0.5) * STEP_UM / tissue.step_um).astype(int)
    y, x = np.minimum(y, tissue.outline.shape[0] - 1), np.minimum(x, tissue.outline.shape[1] - 1)
    below = tissue.outline[y, x] < np.quantile(tissue.outline, 0.4)
    assert np.mean(anatomy.zone[below] == VOID) > 0.97
    assert np.mean(anatomy.zone[tissue.outline[y, x] > level] == VOID) < 0.5


def test_vacuoles_do_not_run_into_each_other() -> None:
    lattice = np.zeros((3, 3, 7))
    lattice[1, 1] = [150, 150, 60, 1, 0, 0, 2]
    lattice[1, 2] = [210, 150, 60, 1, 0, 0, 2]
    depth = anatomy_module._depth_in_vacuole
    assert depth((lattice, 100.0), 150.0, 150.0) > 0
    assert depth((lattice, 100.0), 210.0, 150.0) > 0
    assert depth((lattice, 100.0), 180.0, 150.0) < 0
    assert depth((lattice, 100.0), 150.0, 280.0) < 0
