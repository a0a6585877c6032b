"""Mixtures and architecture of the niches."""

from __future__ import annotations

import numpy as np
import pytest

from stdistill.datasets._simulation.biology.cell_types import CellTypes, draw_cell_types
from stdistill.datasets._simulation.biology.niches import (
    APICAL,
    BLOOD,
    GLAND,
    N_ZONES,
    NEST,
    STROMA,
    VOID,
    WALL,
    Niches,
    draw_niches,
)
from stdistill.datasets._simulation.biology.templates import TEMPLATES


@pytest.fixture(scope="module")
def types() -> CellTypes:
    return draw_cell_types(np.random.default_rng(0), 22)


@pytest.fixture(scope="module")
def tissues(types: CellTypes) -> list[Niches]:
    """Many tissues that have every template once."""
    return [draw_niches(np.random.default_rng(seed), len(TEMPLATES), types) for seed in range(60)]


def mixtures(tissues: list[Niches], kind: str, zone: int) -> np.ndarray:
    return np.array([niches.composition[niches.names.index(kind), zone] for niches in tissues])


@pytest.mark.parametrize(("n", "n_types"), [(2, 6), (8, 16), (26, 22)])
def test_compositions_are_distributions(n: int, n_types: int) -> None:
    niches = draw_niches(np.random.default_rng(0), n, draw_cell_types(np.random.default_rng(0), n_types))
    assert niches.composition.shape == (n, N_ZONES, n_types)
    with_cells = niches.composition[:, [STROMA, WALL, NEST, GLAND]]
    np.testing.assert_allclose(with_cells.sum(axis=2), 1)
    assert niches.share.sum() == pytest.approx(1)
    assert niches.share.min() > 0.1 / n
    assert len(set(niches.names)) == n


def test_no_cell_is_born_where_there_is_no_tissue() -> None:
    niches = draw_niches(np.random.default_rng(0), 8, draw_cell_types(np.random.default_rng(0), 16))
    assert (niches.density[:, [VOID, BLOOD, APICAL]] == 0).all()
    assert (niches.density[:, [STROMA, WALL, NEST, GLAND]] > 0).all()


def test_mixtures_are_sharp_but_no_niche_is_pure() -> None:
    for seed in range(12):
        niches = draw_niches(np.random.default_rng(seed), 8, draw_cell_types(np.random.default_rng(seed), 16))
        largest = niches.composition[:, STROMA].max(axis=1)
        assert largest.max() < 0.995
        assert np.median(largest) > 0.25


def test_lymphoid_aggregates_are_denser_than_stroma() -> None:
    for seed in range(12):
        niches = draw_niches(np.random.default_rng(seed), 8, draw_cell_types(np.random.default_rng(seed), 16))
        density = dict(zip(niches.names, niches.density[:, STROMA], strict=True))
        assert density["lymphoid aggregate"] > 4 * density["fibrous stroma"]


def test_more_niches_than_templates_are_variants() -> None:
    n = len(TEMPLATES)
    niches = draw_niches(np.random.default_rng(0), n + 2, draw_cell_types(np.random.default_rng(0), 16))
    assert niches.names[n] == f"{niches.names[0]} 2"
    assert niches.regions[n] == niches.regions[0]
    assert not np.allclose(niches.composition[n], niches.composition[0])


def test_shares_are_uneven() -> None:
    ratios = []
    for seed in range(12):
        share = draw_niches(np.random.default_rng(seed), 8, draw_cell_types(np.random.default_rng(seed), 16)).share
        ratios.append(share.max() / share.min())
    assert np.median(ratios) > 3


def test_seeds_differ_in_kind_and_mixture() -> None:
    types = draw_cell_types(np.random.default_rng(0), 16)
    first, second = draw_niches(np.random.default_rng(1), 8, types), draw_niches(np.random.default_rng(2), 8, types)
    assert set(first.names) != set(second.names)
    assert not np.allclose(first.composition[0], second.composition[0], atol=0.01)


def test_mixtures_vary_about_the_weights_of_the_template(tissues: list[Niches], types: CellTypes) -> None:
    for kind in ("lymphoid aggregate", "inflamed stroma", "smooth muscle"):
        weights = np.array([TEMPLATES[kind].stroma.get(name, 0.0) for name in types.names])
        # Every type gets 0.004 on top, so that the 22 of them sum to 1.088.
        expected = (weights / weights.sum() + 0.004) / 1.088
        np.testing.assert_allclose(mixtures(tissues, kind, STROMA).mean(axis=0), expected, atol=0.04)


def test_types_of_a_mixture_scatter_like_a_dirichlet(tissues: list[Niches], types: CellTypes) -> None:
    share = mixtures(tissues, "smooth muscle", STROMA)[:, types.names.index("Smooth muscle")]
    mean = (12 / 13.7 + 0.004) / 1.088
    # Concentration 30·1.088, so the variance is m(1 - m) / (32.6 + 1).
    assert share.std() == pytest.approx(np.sqrt(mean * (1 - mean) / 33.64), rel=0.3)


def test_one_clone_rules_most_tumour_domains_but_not_always_the_same(tissues: list[Niches], types: CellTypes) -> None:
    nest = mixtures(tissues, "solid tumor", NEST)
    a, b = (nest[:, types.names.index(name)] for name in ("Tumor A", "Tumor B"))
    share = a / (a + b)
    assert np.mean((share > 0.85) | (share < 0.15)) > 0.5
    assert np.mean((share > 0.25) & (share < 0.75)) > 0.05
    assert 0.25 < np.mean(share > 0.5) < 0.75


def test_glands_are_lined_by_the_cells_of_nests(tissues: list[Niches]) -> None:
    for niches in tissues[:5]:
        np.testing.assert_array_equal(niches.composition[:, GLAND], niches.composition[:, NEST])
        np.testing.assert_array_equal(niches.density[:, GLAND], niches.density[:, NEST])


def test_vessel_walls_are_endothelium_and_muscle_in_every_niche(tissues: list[Niches], types: CellTypes) -> None:
    vascular = [types.names.index(name) for name in ("Endothelial", "Pericyte", "Smooth muscle")]
    walls = np.concatenate([niches.composition[:, WALL] for niches in tissues])
    assert walls[:, vascular].sum(axis=1).mean() == pytest.approx((1 + 3 * 0.004) / 1.088, abs=0.01)


def test_a_small_catalogue_still_fills_every_niche() -> None:
    """Glands without epithelial types and necrosis without neutrophils have cells all the same."""
    types = draw_cell_types(np.random.default_rng(0), 6)
    niches = draw_niches(np.random.default_rng(0), 26, types)
    populated = niches.composition[:, [STROMA, WALL, NEST, GLAND]]
    assert np.isfinite(populated).all()
    np.testing.assert_allclose(populated.sum(axis=2), 1)
    glands = niches.composition[niches.names.index("glands"), NEST]
    # None of the wanted types exists, so the first half of the catalogue stands in.
    assert glands[:3].sum() > 0.8


def test_density_is_that_of_the_template_with_one_crowding_a_niche(tissues: list[Niches]) -> None:
    crowding = []
    for niches in tissues:
        for row, kind in zip(niches.density, niches.names, strict=True):
            template = TEMPLATES[kind]
            factors = row[[STROMA, NEST]] / [template.density_stroma, template.density_parenchyma]
            assert factors[0] == pytest.approx(factors[1])
            crowding.append(factors[0])
    assert np.std(np.log(crowding)) == pytest.approx(0.12, rel=0.15)


def test_texture_is_varied_but_what_makes_the_kind_is_kept(tissues: list[Niches]) -> None:
    for name in ("nests", "glands", "apical", "fat", "vessels"):
        for niches in tissues[:5]:
            expected = [getattr(TEMPLATES[kind], name) for kind in niches.names]
            np.testing.assert_array_equal(niches.structure[name], expected)
    for name in ("eosin", "gland_radius"):
        ratio = [
            niches.structure[name] / [getattr(TEMPLATES[kind], name) for kind in niches.names] for niches in tissues
        ]
        assert np.std(np.log(ratio)) == pytest.approx(0.15, rel=0.15)


def test_wide_domains_cover_more(tissues: list[Niches]) -> None:
    share = {
        kind: np.mean([niches.share[niches.names.index(kind)] for niches in tissues])
        for kind in ("fibrous stroma", "lymphoid aggregate")
    }
    assert share["fibrous stroma"] > 1.7 * share["lymphoid aggregate"]
    assert min(niches.share.min() for niches in tissues) >= 0.25 / 13 / (1 + 0.25)


def test_a_repeated_template_is_a_variant_of_its_own(types: CellTypes) -> None:
    niches = draw_niches(np.random.default_rng(3), 26, types)
    assert len(set(niches.names)) == 26
    for row in range(13):
        assert niches.names[13 + row] == f"{niches.names[row]} 2"
        assert niches.structure["eosin"][13 + row] != niches.structure["eosin"][row]
        assert niches.density[13 + row, STROMA] != niches.density[row, STROMA]
