"""How the parts of compositions differ with a group: effects, intervals, p-values by permutation."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from scipy import stats

from stdistill._measures.compositional.models import Estimate, degrees_of_freedom, fit_linear, fit_mixed
from stdistill._measures.compositional.permutations import Orders, make_orders, permutation_p
from stdistill._support.arrays import Float64s, Rows

Unit: TypeAlias = Literal["slides", "patients", "slides of a patient"]


class Design(NamedTuple):
    """What is known of slides (n)."""

    group: Float64s
    """(n,): 0 and 1 of two groups, or a number."""
    covariates: Float64s
    """(n, p), without a constant; p may be 0."""
    patients: Rows
    """(n,): which patient a slide is of."""

    @property
    def matrix(self) -> Float64s:
        """Constant, group and covariates, (n, 2 + p)."""
        return np.column_stack([np.ones(len(self.group)), self.group, self.covariates])

    @property
    def has_several(self) -> bool:
        """Whether a patient has several slides."""
        return len(np.unique(self.patients)) < len(self.patients)

    @property
    def is_within(self) -> bool:
        """Whether the group differs between slides of one patient."""
        codes = np.unique(self.patients, return_inverse=True)[1]
        low, high = np.full((2, codes.max() + 1), np.inf)
        np.minimum.at(low, codes, self.group)
        np.minimum.at(high, codes, -self.group)
        return bool((low < -high).any())


class Tested(NamedTuple):
    """Whether parts (k,) differ, and what changed places to tell."""

    p: Float64s
    orders: Orders
    unit: Unit
    n_patients: int
    """Or slides, where each is a patient's only one."""

    @property
    def q(self) -> Float64s:
        """False discovery rate (Benjamini & Hochberg 1995)."""
        q: Float64s = stats.false_discovery_control(self.p, method="bh")
        return q


def estimate(ratios: Float64s, design: Design, confidence: float) -> list[Estimate]:
    """Estimate the effect on each of the log-ratios (n, k) of slides.

    By a linear model; by one with a level for each patient (a mixed model) where a patient has several slides.

    Raises
    ------
    ValueError
        When nothing is left to tell the spread by.
    """
    df = _degrees_left(design)
    if design.has_several:
        return [fit_mixed(each, design.matrix, design.patients, df, confidence) for each in ratios.T]
    return [fit_linear(each, design.matrix, confidence) for each in ratios.T]


def permute(ratios: Float64s, design: Design, *, n_permutations: int, seed: int) -> Tested:
    """Test each of the log-ratios (n, k) of slides by permutation.

    What changes places is what could have been otherwise: the slides of each patient where the group differs between
    them, else patients, each with the mean of its slides, which are slides where each has one.
    """
    unit: Unit = "patients" if design.has_several else "slides"
    if design.is_within:
        unit, values, units, blocks = "slides of a patient", ratios, design, design.patients
    else:
        values, units = _means(ratios, design)
        blocks = np.zeros(len(values), dtype=np.intp)
    has_covariates = units.covariates.shape[1] > 0
    orders = make_orders(units.group, blocks, has_covariates=has_covariates, n_permutations=n_permutations, seed=seed)
    p = permutation_p(values, units.group, units.covariates, blocks, orders.rows)
    return Tested(p, orders, unit, len(np.unique(design.patients)))


def _degrees_left(design: Design) -> int:
    """Count the degrees of freedom of the effect; raise when there are none, or when covariates say the same."""
    matrix = design.matrix
    rank = int(np.linalg.matrix_rank(matrix))
    if rank < matrix.shape[1]:
        msg = (
            "The covariates tell the group, or each other: no slide shows what one of them does alone. Leave out "
            "those that go along with another."
        )
        raise ValueError(msg)
    if design.has_several:
        df = degrees_of_freedom(matrix, design.patients, is_within=design.is_within)
        what = f"{len(np.unique(design.patients))} patients"
    else:
        df, what = len(matrix) - rank, f"{len(matrix)} slides"
    if df < 1:
        msg = (
            f"{what} are too few for a group and {design.covariates.shape[1]} covariates: nothing is left to tell by "
            "how much they differ in any case. Add slides, or leave out covariates."
        )
        raise ValueError(msg)
    return df


def _means(ratios: Float64s, design: Design) -> tuple[Float64s, Design]:
    """Take the mean of each patient's slides."""
    codes = np.unique(design.patients, return_inverse=True)[1]
    sizes = np.bincount(codes)[:, None]
    columns = np.column_stack([ratios, design.group, design.covariates])
    sums = np.zeros((len(sizes), columns.shape[1]))
    np.add.at(sums, codes, columns)
    k = ratios.shape[1]
    means = sums / sizes
    # The first slide's own number, where a mean of equal ones would differ by rounding.
    group = design.group[np.unique(codes, return_index=True)[1]]
    return means[:, :k], Design(group, means[:, k + 1 :], np.arange(len(sizes)))
