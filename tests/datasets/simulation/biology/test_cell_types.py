"""Which cell types and genes a tissue has."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from stdistill.datasets._simulation.biology.cell_types import (
    ALWAYS_PRESENT,
    ARCHETYPES,
    COMMON_GENES,
    LOOK_FIELDS,
    LOOKS,
    CellTypes,
    draw_cell_types,
)


@pytest.fixture(scope="module")
def tissues() -> list[CellTypes]:
    return [draw_cell_types(np.random.default_rng(seed), 12) for seed in range(80)]


def test_genes_are_human_symbols() -> None:
    genes = {gene for a in ARCHETYPES.values() for gene in a.markers} | set(COMMON_GENES)
    assert all(re.fullmatch(r"[A-Z0-9]+(-[A-Z0-9]+)?", gene) for gene in genes)
    assert len(COMMON_GENES) == len(set(COMMON_GENES))


@pytest.mark.parametrize("n", [6, 16, 22])
def test_as_many_types_as_asked_for(n: int) -> None:
    types = draw_cell_types(np.random.default_rng(0), n)
    assert len(types.names) == len(set(types.names)) == n
    assert set(list(ARCHETYPES)[:ALWAYS_PRESENT]) <= set(types.names)


@pytest.mark.parametrize("n", [6, 16])
def test_some_pairs_look_the_same_but_differ_in_markers(n: int) -> None:
    for seed in range(12):
        types = draw_cell_types(np.random.default_rng(seed), n)
        alike = [
            (a, b) for a, b in itertools.combinations(range(n), 2) if np.array_equal(types.looks[a], types.looks[b])
        ]
        assert alike
        for a, b in alike:
            assert (types.markers[a] != types.markers[b]).any()


def test_types_of_different_looks_differ() -> None:
    for seed in range(12):
        types = draw_cell_types(np.random.default_rng(seed), 22)
        for a, b in itertools.combinations(range(22), 2):
            same = ARCHETYPES[types.names[a]].look == ARCHETYPES[types.names[b]].look
            assert np.array_equal(types.looks[a], types.looks[b]) == same


def test_about_200_genes_each_type_with_markers() -> None:
    for seed in range(12):
        types = draw_cell_types(np.random.default_rng(seed), 22)
        assert 180 <= len(types.genes) == len(set(types.genes)) <= 260
        assert types.markers.sum(axis=1).min() >= 6


def test_looks_stay_possible() -> None:
    for seed in range(60):
        types = draw_cell_types(np.random.default_rng(seed), 22)
        assert (types.looks >= 0).all()
        assert types.look("aspect").min() > 1
        for field in ("chromatin", "vesicular", "eccentricity"):
            assert types.look(field).max() <= 1
        assert 8 < types.look("nucleus_area").min() < types.look("nucleus_area").max() < 140


def test_seeds_differ_in_types_genes_and_looks() -> None:
    first, second = draw_cell_types(np.random.default_rng(0), 16), draw_cell_types(np.random.default_rng(1), 16)
    assert first.names != second.names
    assert first.genes != second.genes
    assert not np.allclose(first.looks[0], second.looks[0], rtol=0.01)


def test_lymphocytes_are_small_dark_and_tumour_is_large() -> None:
    assert LOOKS["lymphocyte"].nucleus_area < 0.6 * LOOKS["tumour"].nucleus_area
    assert LOOKS["lymphocyte"].haematoxylin > LOOKS["tumour"].haematoxylin


def test_types_keep_the_order_of_the_catalogue(tissues: list[CellTypes]) -> None:
    catalogue = list(ARCHETYPES)
    for types in tissues:
        places = [catalogue.index(name) for name in types.names]
        assert places == sorted(places)
        assert places[:ALWAYS_PRESENT] == list(range(ALWAYS_PRESENT))


def test_every_optional_type_has_the_same_chance(tissues: list[CellTypes]) -> None:
    seen = Counter(name for types in tissues for name in types.names)
    optional = list(ARCHETYPES)[ALWAYS_PRESENT:]
    # Six of sixteen are drawn: 30 of 80 times each, give or take three standard deviations.
    assert all(30 - 13 <= seen[name] <= 30 + 13 for name in optional)


def test_look_is_a_column_of_the_looks(tissues: list[CellTypes]) -> None:
    types = tissues[0]
    assert LOOK_FIELDS[:2] == ("nucleus_area", "aspect")
    for index, field in enumerate(LOOK_FIELDS):
        np.testing.assert_array_equal(types.look(field), types.looks[:, index])
    with pytest.raises(ValueError, match="not in tuple"):
        types.look("colour")


def test_looks_vary_about_the_catalogue_tumours_most(tissues: list[CellTypes]) -> None:
    for name, spread in (("Tumor A", 0.20), ("Fibroblast", 0.10), ("CD4 T cell", 0.10)):
        area = [types.look("nucleus_area")[types.names.index(name)] for types in tissues]
        relative = np.log(np.array(area) / LOOKS[ARCHETYPES[name].look].nucleus_area)
        assert relative.mean() == pytest.approx(0, abs=0.08)
        assert relative.std() == pytest.approx(spread, rel=0.3)


def test_looks_that_have_no_nucleolus_never_get_one(tissues: list[CellTypes]) -> None:
    for types in tissues:
        without = [LOOKS[ARCHETYPES[name].look].nucleolus == 0 for name in types.names]
        np.testing.assert_array_equal(types.look("nucleolus") == 0, without)


def test_tumour_cells_hold_more_molecules_than_lymphocytes(tissues: list[CellTypes]) -> None:
    ratio = [
        types.molecules[types.names.index("Tumor A")] / types.molecules[types.names.index("CD4 T cell")]
        for types in tissues
    ]
    assert np.exp(np.log(ratio).mean()) == pytest.approx(1.6 / 0.55, rel=0.1)
    assert min(ratio) > 1.2


def test_genes_come_from_the_catalogue_in_order(tissues: list[CellTypes]) -> None:
    known = set(COMMON_GENES).union(*(a.markers for a in ARCHETYPES.values()))
    for types in tissues:
        assert set(types.genes) <= known
        assert list(types.genes) == sorted(types.genes)


def test_markers_are_those_of_the_type(tissues: list[CellTypes]) -> None:
    for types in tissues:
        assert types.markers.shape == (12, len(types.genes))
        for name, row in zip(types.names, types.markers, strict=True):
            marked = {gene for gene, is_marker in zip(types.genes, row, strict=True) if is_marker}
            assert marked <= set(ARCHETYPES[name].markers)
            assert len(marked) == min(7, len(ARCHETYPES[name].markers))


def test_the_panel_does_not_tell_which_types_there_are() -> None:
    """It also has markers of absent types, as a panel that was designed before the tissue was seen."""
    few = draw_cell_types(np.random.default_rng(0), 6)
    for name in set(ARCHETYPES) - set(few.names):
        assert set(ARCHETYPES[name].markers) & set(few.genes)
    assert 180 <= len(few.genes) <= 260
    assert (~few.markers.any(axis=0)).sum() > 50


def test_look_alikes_can_be_told_by_several_genes(tissues: list[CellTypes]) -> None:
    found = 0
    for types in tissues:
        for a, b in itertools.combinations(range(12), 2):
            if np.array_equal(types.looks[a], types.looks[b]):
                found += 1
                assert np.count_nonzero(types.markers[a] != types.markers[b]) >= 4
    assert found >= 80


def test_seeds_measure_other_markers_of_the_same_type(tissues: list[CellTypes]) -> None:
    sets = {tuple(np.array(types.genes)[types.markers[0]]) for types in tissues}
    # Seven of ten markers can be chosen in 120 ways.
    assert len(sets) > 35
