"""Counts against the moments of the negative binomial, worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import sparse

from stdistill.datasets._simulation.biology.cell_types import CellTypes, draw_cell_types
from stdistill.datasets._simulation.biology.expression import CONTROLS, Expression, draw_counts, draw_expression
from stdistill.datasets._simulation.biology.niches import Niches, draw_niches

N = 20_000
N_CONTROLS = 42
# Moments of the log-normal size factor of standard deviation 0.3.
SIZE_MEAN, SIZE_SQUARE = np.exp(0.3**2 / 2), np.exp(2 * 0.3**2)


@pytest.fixture(scope="module")
def types() -> CellTypes:
    return draw_cell_types(np.random.default_rng(0), 16)


@pytest.fixture(scope="module")
def niches(types: CellTypes) -> Niches:
    return draw_niches(np.random.default_rng(0), 8, types)


@pytest.fixture(scope="module")
def drawn(types: CellTypes, niches: Niches) -> Expression:
    return draw_expression(np.random.default_rng(0), types, niches)


def simple(**changes: float) -> Expression:
    """Two genes, two types, two niches, a single control."""
    values = {"dispersion": 2.0, "ambient": 0.0, "control": 0.0, **changes}
    return Expression(
        type_mean=np.array([[10.0, 1.0], [2.0, 30.0]]),
        niche_fold=np.array([[1.0, 1.0], [3.0, 0.5]]),
        dispersion=np.full(2, values["dispersion"]),
        ambient=np.full(2, values["ambient"]),
        control=np.full(1, values["control"]),
    )


def counts_of(
    expression: Expression, cell_type: int = 0, niche: int = 0, size: float = 1.0, seed: int = 0
) -> np.ndarray:
    codes = (np.full(N, cell_type, np.uint8), np.full(N, niche, np.uint8))
    return draw_counts(np.random.default_rng(seed), expression, *codes, np.full(N, size)).toarray()


@pytest.mark.parametrize(("cell_type", "niche", "mean"), [(0, 0, (10, 1)), (1, 0, (2, 30)), (1, 1, (6, 15))])
def test_mean_is_type_times_niche(cell_type: int, niche: int, mean: tuple[float, float]) -> None:
    measured = counts_of(simple(), cell_type, niche)[:, :2].mean(axis=0)
    np.testing.assert_allclose(measured, np.array(mean) * SIZE_MEAN, rtol=0.04)


@pytest.mark.parametrize("dispersion", [0.5, 2.0, 50.0])
def test_variance_is_that_of_a_negative_binomial(dispersion: float) -> None:
    counts = counts_of(simple(dispersion=dispersion))[:, 0]
    # Poisson: the mean. Gamma and size: m²(E[s²](1 + 1/k) - E[s]²).
    expected = 10 * SIZE_MEAN + 100 * (SIZE_SQUARE * (1 + 1 / dispersion) - SIZE_MEAN**2)
    assert counts.var() == pytest.approx(expected, rel=0.08)


def test_bursty_genes_are_more_often_absent() -> None:
    bursty, steady = (np.mean(counts_of(simple(dispersion=d))[:, 0] == 0) for d in (0.5, 50.0))
    # Without the size factor it would be (1 + 10 / 0.5)^-0.5 = 0.22.
    assert bursty == pytest.approx(0.22, abs=0.03)
    assert steady < 0.001


def test_ambient_is_poisson_and_does_not_grow_with_the_cell() -> None:
    expression = dataclasses.replace(simple(ambient=1.5), type_mean=np.zeros((2, 2)))
    for size in (0.5, 4.0):
        counts = counts_of(expression, size=size)[:, :2]
        np.testing.assert_allclose(counts.mean(axis=0), 1.5, rtol=0.03)
        np.testing.assert_allclose(counts.var(axis=0), 1.5, rtol=0.06)


def test_a_cell_twice_as_large_holds_less_than_twice_as_much() -> None:
    small, large = (counts_of(simple(), 1, size=size)[:, 1].mean() for size in (1.0, 2.0))
    assert large / small == pytest.approx(2**0.7, rel=0.04)


def test_genes_of_a_cell_share_its_size_only() -> None:
    first, second = counts_of(simple(dispersion=50.0), 1)[:, :2].T
    # Cov = m1·m2·Var(s), by the standard deviations of the two genes.
    covariance = 2 * 30 * (SIZE_SQUARE - SIZE_MEAN**2)
    assert np.cov(first, second)[0, 1] == pytest.approx(covariance, rel=0.15)


def test_controls_come_after_the_genes_and_are_poisson() -> None:
    counts = counts_of(simple(control=0.2), size=3.0)
    assert counts.shape == (N, 3)
    assert counts[:, 2].mean() == pytest.approx(0.2, rel=0.06)
    assert counts[:, 2].var() == pytest.approx(0.2, rel=0.08)


def test_same_seed_same_counts() -> None:
    np.testing.assert_array_equal(counts_of(simple(), seed=1), counts_of(simple(), seed=1))
    assert (counts_of(simple(), seed=1) != counts_of(simple(), seed=2)).any()


def test_shapes_are_those_of_the_tissue(drawn: Expression, types: CellTypes) -> None:
    n_genes = len(types.genes)
    assert drawn.type_mean.shape == (16, n_genes)
    assert drawn.niche_fold.shape == (8, n_genes)
    assert drawn.dispersion.shape == drawn.ambient.shape == (n_genes,)
    assert drawn.control.shape == (N_CONTROLS,) == (sum(len(names) for names in CONTROLS.values()),)


def test_types_hold_150_molecules_times_their_size(drawn: Expression, types: CellTypes) -> None:
    np.testing.assert_allclose(drawn.type_mean.sum(axis=1), 150 * types.molecules)


def test_markers_make_up_much_of_a_type(drawn: Expression, types: CellTypes) -> None:
    in_markers = np.where(types.markers, drawn.type_mean, 0).sum(axis=1) / drawn.type_mean.sum(axis=1)
    assert 0.15 < np.median(in_markers) < 0.7


def test_niche_folds_have_no_direction(drawn: Expression) -> None:
    log_fold = np.log(drawn.niche_fold[drawn.niche_fold != 1])
    assert abs(log_fold.mean()) < 4 * 0.45 / np.sqrt(len(log_fold))
    assert log_fold.std() == pytest.approx(0.45, rel=0.15)


def test_niches_shift_their_own_genes(drawn: Expression) -> None:
    shifted = drawn.niche_fold != 1
    shared = (shifted[:, None] & shifted[None]).sum(axis=2)[np.triu_indices(8, 1)]
    # 15 % of 15 % of some 220 genes.
    assert shared.mean() == pytest.approx(0.0225 * shifted.shape[1], rel=0.5)


def test_ambient_is_one_in_twenty_molecules(drawn: Expression) -> None:
    assert drawn.ambient.sum() / drawn.type_mean.sum(axis=1).mean() == pytest.approx(0.05 * 1.13, rel=0.25)
    assert (drawn.ambient > 0).all()


def test_every_gene_is_overdispersed(drawn: Expression) -> None:
    assert drawn.dispersion.min() > 0.3
    assert drawn.dispersion.mean() == pytest.approx(0.3 + 4 * 0.6, rel=0.1)


def test_a_cell_has_some_150_molecules(drawn: Expression) -> None:
    per_type = drawn.type_mean.sum(axis=1)
    assert 100 < per_type.mean() < 230
    assert per_type.max() > 2 * per_type.min()


def test_markers_are_high_in_their_type(drawn: Expression, types: CellTypes) -> None:
    share = drawn.type_mean / drawn.type_mean.sum(axis=1, keepdims=True)
    for code in range(len(types.names)):
        marker = types.markers[code]
        unrelated = ~types.markers[:, marker].any(axis=1)
        fold = share[code, marker] / share[unrelated][:, marker].mean(axis=0)
        assert np.median(fold) > 4


def test_niches_shift_some_genes_by_less_than_types_do(drawn: Expression) -> None:
    changed = drawn.niche_fold != 1
    assert 0.08 < changed.mean() < 0.25
    by_niche = np.abs(np.log(drawn.niche_fold[changed])).mean()
    by_type = np.abs(np.diff(np.log(drawn.type_mean), axis=0)).mean()
    assert 0.1 < by_niche < by_type


def test_seeds_differ_in_expression(types: CellTypes, drawn: Expression) -> None:
    rng = np.random.default_rng(7)
    other = draw_expression(rng, types, draw_niches(rng, 8, types))
    correlation = np.corrcoef(np.log(other.type_mean[0]), np.log(drawn.type_mean[0]))[0, 1]
    assert correlation < 0.9


def test_counts_are_whole_and_have_all_features(drawn: Expression, types: CellTypes) -> None:
    counts = draw_counts(np.random.default_rng(0), drawn, np.zeros(50, np.uint8), np.zeros(50, np.uint8), np.ones(50))
    assert isinstance(counts, sparse.csr_matrix)
    assert counts.dtype == np.int32
    assert counts.shape == (50, len(types.genes) + N_CONTROLS)
    assert counts.data.min() > 0


def test_counts_have_the_mean_of_type_niche_and_ambient(drawn: Expression) -> None:
    measured = counts_of(drawn, 3, niche=2)[:, :-N_CONTROLS].mean(axis=0)
    # The size factor is log-normal with a mean above 1.
    expected = drawn.type_mean[3] * drawn.niche_fold[2] * np.exp(0.3**2 / 2) + drawn.ambient
    high = expected > 0.5
    np.testing.assert_allclose(measured[high], expected[high], rtol=0.12)


def test_counts_vary_more_than_poisson(drawn: Expression) -> None:
    counts = counts_of(drawn, 0)[:, :-N_CONTROLS]
    mean, variance = counts.mean(axis=0), counts.var(axis=0)
    assert np.median(variance[mean > 1] / mean[mean > 1]) > 1.3


def test_every_gene_is_met_in_every_type_now_and_then(drawn: Expression) -> None:
    assert (counts_of(drawn, 5)[:, :-N_CONTROLS].sum(axis=0) > 0).mean() > 0.95


def test_controls_are_rare(drawn: Expression) -> None:
    controls = counts_of(drawn, 0)[:, -N_CONTROLS:]
    assert 0 < controls.mean() < 0.02


def test_larger_cells_hold_more(drawn: Expression) -> None:
    codes = np.zeros(3000, np.uint8)
    small, large = (
        draw_counts(np.random.default_rng(0), drawn, codes, codes, np.full(3000, size)).sum() for size in (0.5, 2)
    )
    assert 1.8 < large / small < 4
