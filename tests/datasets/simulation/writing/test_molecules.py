"""Counts, and the places of molecules."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from stdistill.datasets._simulation.biology.cell_types import CellTypes, draw_cell_types
from stdistill.datasets._simulation.biology.expression import CONTROLS, Expression, draw_counts, draw_expression
from stdistill.datasets._simulation.biology.niches import draw_niches
from stdistill.datasets._simulation.tissue.cells import N_ANGLES
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.tissue.transcripts import _in_polygon, _is_inside, place_molecules

N_CONTROLS = sum(len(names) for names in CONTROLS.values())


@pytest.fixture(scope="module")
def types() -> CellTypes:
    return draw_cell_types(np.random.default_rng(0), 16)


@pytest.fixture(scope="module")
def expression(types: CellTypes) -> Expression:
    rng = np.random.default_rng(1)
    return draw_expression(rng, types, draw_niches(rng, 8, types))


def counts_of(expression: Expression, cell_type: int, niche: int = 0, n: int = 4000) -> np.ndarray:
    codes = (np.full(n, cell_type, np.uint8), np.full(n, niche, np.uint8))
    return draw_counts(np.random.default_rng(2), expression, *codes, np.ones(n)).toarray()


class TestExpression:
    def test_a_cell_has_some_150_molecules(self, expression: Expression) -> None:
        per_type = expression.type_mean.sum(axis=1)
        assert 100 < per_type.mean() < 230
        assert per_type.max() > 2 * per_type.min()

    def test_markers_are_high_in_their_type(self, expression: Expression, types: CellTypes) -> None:
        share = expression.type_mean / expression.type_mean.sum(axis=1, keepdims=True)
        for code in range(len(types.names)):
            marker = types.markers[code]
            unrelated = ~types.markers[:, marker].any(axis=1)
            fold = share[code, marker] / share[unrelated][:, marker].mean(axis=0)
            assert np.median(fold) > 4

    def test_niches_shift_some_genes_by_less_than_types_do(self, expression: Expression) -> None:
        changed = expression.niche_fold != 1
        assert 0.08 < changed.mean() < 0.25
        by_niche = np.abs(np.log(expression.niche_fold[changed])).mean()
        by_type = np.abs(np.diff(np.log(expression.type_mean), axis=0)).mean()
        assert 0.1 < by_niche < by_type

    def test_seeds_differ(self, types: CellTypes, expression: Expression) -> None:
        rng = np.random.default_rng(7)
        other = draw_expression(rng, types, draw_niches(rng, 8, types))
        correlation = np.corrcoef(np.log(other.type_mean[0]), np.log(expression.type_mean[0]))[0, 1]
        assert correlation < 0.9


class TestCounts:
    def test_are_whole_and_have_all_features(self, expression: Expression, types: CellTypes) -> None:
        counts = draw_counts(
            np.random.default_rng(0), expression, np.zeros(50, np.uint8), np.zeros(50, np.uint8), np.ones(50)
        )
        assert isinstance(counts, sparse.csr_matrix)
        assert counts.dtype == np.int32
        assert counts.shape == (50, len(types.genes) + N_CONTROLS)
        assert counts.data.min() > 0

    def test_have_the_mean_of_type_niche_and_ambient(self, expression: Expression) -> None:
        measured = counts_of(expression, 3, niche=2)[:, :-N_CONTROLS].mean(axis=0)
        # The size factor is log-normal with a mean above 1.
        expected = expression.type_mean[3] * expression.niche_fold[2] * np.exp(0.3**2 / 2) + expression.ambient
        high = expected > 0.5
        np.testing.assert_allclose(measured[high], expected[high], rtol=0.12)

    def test_vary_more_than_poisson(self, expression: Expression) -> None:
        counts = counts_of(expression, 0)[:, :-N_CONTROLS]
        mean, variance = counts.mean(axis=0), counts.var(axis=0)
        assert np.median(variance[mean > 1] / mean[mean > 1]) > 1.3

    def test_every_gene_is_met_in_every_type_now_and_then(self, expression: Expression) -> None:
        assert (counts_of(expression, 5)[:, :-N_CONTROLS].sum(axis=0) > 0).mean() > 0.95

    def test_controls_are_rare(self, expression: Expression) -> None:
        controls = counts_of(expression, 0)[:, -N_CONTROLS:]
        assert 0 < controls.mean() < 0.02

    def test_larger_cells_hold_more(self, expression: Expression) -> None:
        codes = np.zeros(3000, np.uint8)
        small, large = (
            draw_counts(np.random.default_rng(0), expression, codes, codes, np.full(3000, size)).sum()
            for size in (0.5, 2)
        )
        assert 1.8 < large / small < 4


class TestPlaces:
    def test_spread_evenly_over_the_outline(self) -> None:
        rng = np.random.default_rng(0)
        outline = np.full(N_ANGLES, 5, np.float32)
        places = np.array([_in_polygon(10.0, 20.0, outline, u) for u in rng.random((4000, 4), dtype=np.float32)])
        np.testing.assert_allclose(places.mean(axis=0), [10, 20], atol=0.2)
        # Half of the area of a disc lies within 1/sqrt(2) of its radius.
        inner = np.hypot(*(places - [10, 20]).T) < 5 / np.sqrt(2)
        assert inner.mean() == pytest.approx(0.5, abs=0.04)

    def test_are_inside_even_a_bent_outline(self) -> None:
        rng = np.random.default_rng(1)
        outline = rng.uniform(1, 9, N_ANGLES).astype(np.float32)
        for u in rng.random((2000, 4), dtype=np.float32):
            assert _is_inside(*_in_polygon(0.0, 0.0, outline, u), outline)

    @pytest.mark.parametrize(("x", "y", "expected"), [(0, 0, True), (4.9, 0, True), (5.1, 0, False), (-3, -3.9, True)])
    def test_inside_and_outside(self, x: float, y: float, expected: bool) -> None:
        assert _is_inside(float(x), float(y), np.full(N_ANGLES, 5, np.float32)) == expected

    def test_each_count_becomes_as_many_molecules(self, section: Section) -> None:
        rng = np.random.default_rng(0)
        counts = sparse.csr_matrix(rng.poisson(0.4, (40, 25)).astype(np.int32))
        molecules = place_molecules(rng, section.cells, 100, counts)
        tally = np.zeros((40, 25), int)
        np.add.at(tally, (molecules["cell"] - 100, molecules["feature"]), 1)
        np.testing.assert_array_equal(tally, counts.toarray())
        offset = np.hypot(
            molecules["x_location"] - section.cells.x[molecules["cell"]],
            molecules["y_location"] - section.cells.y[molecules["cell"]],
        )
        assert (offset < section.cells.outline.max(axis=1)[molecules["cell"]]).all()

    def test_a_cell_without_a_nucleus_has_no_nuclear_molecules(self, section: Section) -> None:
        cells = section.cells
        counts = sparse.csr_matrix(np.full((len(cells), 1), 5, np.int32))
        molecules = place_molecules(np.random.default_rng(0), cells, 0, counts)
        share = np.bincount(molecules["cell"], molecules["overlaps_nucleus"]) / 5
        assert (share[cells.n_nuclei == 0] == 0).all()
        assert share[cells.n_nuclei == 1].mean() > 0.5
        assert share[cells.n_nuclei == 2].mean() > 0.35
