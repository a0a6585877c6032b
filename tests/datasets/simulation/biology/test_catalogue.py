"""Cell types and niches: what a seed may draw."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from stdistill.datasets import _simulate
from stdistill.datasets._simulation.biology import templates
from stdistill.datasets._simulation.biology.cell_types import (
    ALWAYS_PRESENT,
    ARCHETYPES,
    COMMON_GENES,
    LOOKS,
    draw_cell_types,
)
from stdistill.datasets._simulation.biology.niches import (
    APICAL,
    BLOOD,
    GLAND,
    N_ZONES,
    NEST,
    STROMA,
    VOID,
    WALL,
    draw_niches,
)
from stdistill.datasets._simulation.writing import pathology as regions
from stdistill.datasets._simulation.writing.tables import COLORS

SEEDS = range(12)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestCatalogue:
    def test_limits_of_the_arguments_are_those_of_the_catalogue(self) -> None:
        assert (ALWAYS_PRESENT, len(ARCHETYPES)) == _simulate._N_CELL_TYPES
        assert _simulate._N_NICHES[1] == 2 * len(templates.TEMPLATES)

    def test_types_of_templates_exist(self) -> None:
        for template in templates.TEMPLATES.values():
            assert set(template.parenchyma) | set(template.stroma) <= set(ARCHETYPES)

    def test_regions_have_a_colour(self) -> None:
        assert {t.region for t in templates.TEMPLATES.values()} == set(regions._COLORS)

    def test_genes_are_human_symbols(self) -> None:
        genes = {gene for a in ARCHETYPES.values() for gene in a.markers} | set(COMMON_GENES)
        assert all(re.fullmatch(r"[A-Z0-9]+(-[A-Z0-9]+)?", gene) for gene in genes)
        assert len(COMMON_GENES) == len(set(COMMON_GENES))

    def test_colours_are_distinct_for_every_type(self) -> None:
        assert len(set(COLORS)) == len(COLORS) >= len(ARCHETYPES)


class TestCellTypes:
    @pytest.mark.parametrize("n", [6, 16, 22])
    def test_as_many_as_asked_for(self, n: int) -> None:
        types = draw_cell_types(rng(), n)
        assert len(types.names) == len(set(types.names)) == n
        assert set(list(ARCHETYPES)[:ALWAYS_PRESENT]) <= set(types.names)

    @pytest.mark.parametrize("n", [6, 16])
    def test_some_pairs_look_the_same_but_differ_in_markers(self, n: int) -> None:
        for seed in SEEDS:
            types = draw_cell_types(rng(seed), n)
            alike = [
                (a, b) for a, b in itertools.combinations(range(n), 2) if np.array_equal(types.looks[a], types.looks[b])
            ]
            assert alike
            for a, b in alike:
                assert (types.markers[a] != types.markers[b]).any()

    def test_types_of_different_looks_differ(self) -> None:
        for seed in SEEDS:
            types = draw_cell_types(rng(seed), 22)
            for a, b in itertools.combinations(range(22), 2):
                same = ARCHETYPES[types.names[a]].look == ARCHETYPES[types.names[b]].look
                assert np.array_equal(types.looks[a], types.looks[b]) == same

    def test_about_200_genes_each_type_with_markers(self) -> None:
        for seed in SEEDS:
            types = draw_cell_types(rng(seed), 22)
            assert 180 <= len(types.genes) == len(set(types.genes)) <= 260
            assert types.markers.sum(axis=1).min() >= 6

    def test_looks_stay_possible(self) -> None:
        for seed in range(60):
            types = draw_cell_types(rng(seed), 22)
            assert (types.looks >= 0).all()
            assert types.look("aspect").min() > 1
            for field in ("chromatin", "vesicular", "eccentricity"):
                assert types.look(field).max() <= 1
            assert 8 < types.look("nucleus_area").min() < types.look("nucleus_area").max() < 140

    def test_seeds_differ_in_types_genes_and_looks(self) -> None:
        first, second = draw_cell_types(rng(0), 16), draw_cell_types(rng(1), 16)
        assert first.names != second.names
        assert first.genes != second.genes
        assert not np.allclose(first.looks[0], second.looks[0], rtol=0.01)

    def test_lymphocytes_are_small_dark_and_tumour_is_large(self) -> None:
        assert LOOKS["lymphocyte"].nucleus_area < 0.6 * LOOKS["tumour"].nucleus_area
        assert LOOKS["lymphocyte"].haematoxylin > LOOKS["tumour"].haematoxylin


class TestNiches:
    @pytest.mark.parametrize(("n", "n_types"), [(2, 6), (8, 16), (26, 22)])
    def test_compositions_are_distributions(self, n: int, n_types: int) -> None:
        niches = draw_niches(rng(), n, draw_cell_types(rng(), n_types))
        assert niches.composition.shape == (n, N_ZONES, n_types)
        with_cells = niches.composition[:, [STROMA, WALL, NEST, GLAND]]
        np.testing.assert_allclose(with_cells.sum(axis=2), 1)
        assert niches.share.sum() == pytest.approx(1)
        assert niches.share.min() > 0.1 / n
        assert len(set(niches.names)) == n

    def test_no_cell_is_born_where_there_is_no_tissue(self) -> None:
        niches = draw_niches(rng(), 8, draw_cell_types(rng(), 16))
        assert (niches.density[:, [VOID, BLOOD, APICAL]] == 0).all()
        assert (niches.density[:, [STROMA, WALL, NEST, GLAND]] > 0).all()

    def test_mixtures_are_sharp_but_no_niche_is_pure(self) -> None:
        for seed in SEEDS:
            niches = draw_niches(rng(seed), 8, draw_cell_types(rng(seed), 16))
            largest = niches.composition[:, STROMA].max(axis=1)
            assert largest.max() < 0.995
            assert np.median(largest) > 0.25

    def test_lymphoid_aggregates_are_denser_than_stroma(self) -> None:
        for seed in SEEDS:
            niches = draw_niches(rng(seed), 8, draw_cell_types(rng(seed), 16))
            density = dict(zip(niches.names, niches.density[:, STROMA], strict=True))
            assert density["lymphoid aggregate"] > 4 * density["fibrous stroma"]

    def test_more_niches_than_templates_are_variants(self) -> None:
        n = len(templates.TEMPLATES)
        niches = draw_niches(rng(), n + 2, draw_cell_types(rng(), 16))
        assert niches.names[n] == f"{niches.names[0]} 2"
        assert niches.regions[n] == niches.regions[0]
        assert not np.allclose(niches.composition[n], niches.composition[0])

    def test_shares_are_uneven(self) -> None:
        ratios = []
        for seed in SEEDS:
            share = draw_niches(rng(seed), 8, draw_cell_types(rng(seed), 16)).share
            ratios.append(share.max() / share.min())
        assert np.median(ratios) > 3

    def test_seeds_differ_in_kind_and_mixture(self) -> None:
        types = draw_cell_types(rng(), 16)
        first, second = draw_niches(rng(1), 8, types), draw_niches(rng(2), 8, types)
        assert set(first.names) != set(second.names)
        assert not np.allclose(first.composition[0], second.composition[0], atol=0.01)
