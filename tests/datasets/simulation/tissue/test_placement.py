"""Hard cores, densities and mixtures of the placed cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform

from stdistill.datasets._simulation.biology.cell_types import LOOK_FIELDS, CellTypes, draw_cell_types
from stdistill.datasets._simulation.biology.niches import APICAL, BLOOD, NEST, STROMA, VOID, Niches, draw_niches
from stdistill.datasets._simulation.tissue.anatomy import STEP_UM, Anatomy, draw_anatomy
from stdistill.datasets._simulation.tissue.placement import CORE, NICHE, TYPE, ZONE, Placed, X, Y, place_cells
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.tissue.tissue import Tissue, draw_tissue

AREA_UM2 = 800.0**2
GAP_UM = 0.3


@pytest.fixture(scope="module")
def types() -> CellTypes:
    return draw_cell_types(np.random.default_rng(0), 16)


@pytest.fixture(scope="module")
def niches(types: CellTypes) -> Niches:
    return draw_niches(np.random.default_rng(0), 4, types)


@pytest.fixture(scope="module")
def tissue(niches: Niches) -> Tissue:
    return draw_tissue(np.random.default_rng(0), niches, AREA_UM2)


def place(tissue: Tissue, niches: Niches, types: CellTypes, zone: int = STROMA, seed: int = 0) -> Placed:
    """Place on a slide that is of one zone everywhere, far from any hole."""
    shape = (int(tissue.height_um / STEP_UM) + 2, int(tissue.width_um / STEP_UM) + 2)
    anatomy = Anatomy(np.full(shape, zone, np.uint8), np.full(shape, 100, np.int8))
    return place_cells(np.random.default_rng(seed), tissue, anatomy, niches, types)


def with_density(niches: Niches, per_mm2: float) -> Niches:
    return dataclasses.replace(niches, density=np.full_like(niches.density, per_mm2))


def slack(placed: Placed) -> np.ndarray:
    """How far all pairs of cores are apart, by brute force."""
    distance = squareform(pdist(placed[:, [X, Y]])) - placed[:, CORE] - placed[:, CORE, None]
    return distance[np.triu_indices(len(placed), 1)]


def test_cores_keep_a_gap_even_in_a_crowd(tissue: Tissue, niches: Niches, types: CellTypes) -> None:
    placed = place(tissue, with_density(niches, 30_000), types)
    assert len(placed) > 3000
    assert GAP_UM <= slack(placed).min() < GAP_UM + 0.05


def test_very_large_nuclei_do_not_overlap_either(tissue: Tissue, niches: Niches, types: CellTypes) -> None:
    looks = types.looks.copy()
    looks[:, LOOK_FIELDS.index("nucleus_area")] = 220
    placed = place(tissue, with_density(niches, 20_000), dataclasses.replace(types, looks=looks))
    assert placed[:, CORE].max() > 7.5
    assert slack(placed).min() >= GAP_UM


def test_cores_have_the_area_of_the_nucleus(tissue: Tissue, niches: Niches, types: CellTypes) -> None:
    placed = place(tissue, with_density(niches, 1500), types)
    code = placed[:, TYPE].astype(int)
    relative = np.log(np.pi * placed[:, CORE] ** 2 / types.look("nucleus_area")[code])
    spread = types.look("area_cv")[code]
    assert (np.abs(relative) <= 2 * spread + 1e-5).all()
    assert np.mean(relative / spread) == pytest.approx(0, abs=0.1)
    assert np.std(relative / spread) == pytest.approx(0.88, abs=0.1)


@pytest.mark.parametrize("per_mm2", [200, 800])
def test_density_is_the_asked_one_where_there_is_room(
    tissue: Tissue, niches: Niches, types: CellTypes, per_mm2: float
) -> None:
    counts = [len(place(tissue, with_density(niches, per_mm2), types, seed=seed)) for seed in range(8)]
    expected = per_mm2 * AREA_UM2 / 1e6
    # Up to a tenth is lost to hits; what is left scatters like a Poisson number.
    assert 0.88 * expected < np.mean(counts) < expected + 3 * np.sqrt(expected / 8)


def test_crowding_only_takes_away(tissue: Tissue, niches: Niches, types: CellTypes) -> None:
    sparse, dense = (len(place(tissue, with_density(niches, d), types)) / 0.64 for d in (2000, 40_000))
    assert 1500 < sparse < 2000
    assert 4 * sparse < dense < 0.6 * 40_000


def test_density_is_even_over_the_slide(tissue: Tissue, niches: Niches, types: CellTypes) -> None:
    placed = place(tissue, with_density(niches, 6000), types)
    for column, length in ((X, tissue.width_um), (Y, tissue.height_um)):
        # The grid of throws ends up to one pitch before the edge.
        quarters = np.histogram(placed[:, column], 4, (0, length))[0] / len(placed)
        np.testing.assert_allclose(quarters, 0.25, atol=0.03)


def test_density_follows_the_niche(tissue: Tissue, niches: Niches, types: CellTypes) -> None:
    density = np.zeros_like(niches.density)
    density[1] = 5000
    placed = place(tissue, dataclasses.replace(niches, density=density), types)
    assert (placed[:, NICHE] == 1).all()
    probability = np.diff(tissue.domains.astype(int), axis=2, prepend=0)[..., 1]
    at_cells = probability[tuple((placed[:, [Y, X]] / tissue.step_um).astype(int).T)]
    assert at_cells.min() > 0
    assert np.mean(at_cells > 127) > 0.8


def test_nothing_is_placed_on_an_empty_slide(tissue: Tissue, niches: Niches, types: CellTypes) -> None:
    assert place(tissue, niches, types, VOID).shape == (0, 6)


@pytest.mark.parametrize("zone", [STROMA, NEST])
def test_types_are_drawn_as_the_niche_says(tissue: Tissue, niches: Niches, types: CellTypes, zone: int) -> None:
    sparse = with_density(niches, 2500)
    placed = np.concatenate([place(tissue, sparse, types, zone, seed) for seed in range(4)])
    assert (placed[:, ZONE] == zone).all()
    for niche in range(4):
        code = placed[placed[:, NICHE] == niche, TYPE].astype(int)
        share = np.bincount(code, minlength=16) / len(code)
        tolerance = 0.02 + 3 * np.sqrt(0.25 / len(code))
        np.testing.assert_allclose(share, niches.composition[niche, zone], atol=tolerance)


def test_same_seed_same_cells(tissue: Tissue, niches: Niches, types: CellTypes) -> None:
    first, again, other = (place(tissue, niches, types, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.isin(first[:, X], other[:, X]).any()


def test_cores_never_overlap(types: CellTypes) -> None:
    niches = draw_niches(np.random.default_rng(0), 8, types)
    rng = np.random.default_rng(0)
    tissue = draw_tissue(rng, niches, 900.0**2)
    anatomy = draw_anatomy(rng, tissue, niches)
    placed = place_cells(rng, tissue, anatomy, niches, types)
    pairs = cKDTree(placed[:, [X, Y]]).query_pairs(2 * placed[:, CORE].max(), output_type="ndarray")
    distance = np.hypot(*(placed[pairs[:, 0]][:, [X, Y]] - placed[pairs[:, 1]][:, [X, Y]]).T)
    assert (distance > placed[pairs, CORE].sum(axis=1)).all()


def test_no_cell_in_a_hole(section: Section) -> None:
    cells, anatomy = section.cells, section.anatomy
    row, column = (cells.y / STEP_UM).astype(int), (cells.x / STEP_UM).astype(int)
    assert not np.isin(anatomy.zone[row, column], (VOID, BLOOD, APICAL)).any()


def test_zones_are_those_of_the_anatomy(
    only: Callable[[str], tuple[Niches, Tissue, Anatomy]], types: CellTypes
) -> None:
    niches, tissue, anatomy = only("solid tumor")
    placed = place_cells(np.random.default_rng(0), tissue, anatomy, niches, types)
    zone = anatomy.zone[(placed[:, Y] / STEP_UM).astype(int), (placed[:, X] / STEP_UM).astype(int)]
    np.testing.assert_array_equal(zone, placed[:, ZONE])
    assert np.mean(zone == NEST) > 0.5
