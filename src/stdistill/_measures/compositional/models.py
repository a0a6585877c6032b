"""The effect of a group on a measure of slides, with its confidence interval: linear and mixed models."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from scipy import stats

from stdistill._support.arrays import Float64s, Rows


class Estimate(NamedTuple):
    """An effect, and the limits of its interval."""

    effect: float
    lower: float
    upper: float


def fit_linear(values: Float64s, design: Float64s, confidence: float) -> Estimate:
    """Estimate the effect of the second column of the design (n, p) on the values (n,)."""
    from statsmodels.regression.linear_model import OLS

    fitted = OLS(values, design).fit()
    return _interval(fitted.params[1], fitted.bse[1], fitted.df_resid, confidence)


def fit_mixed(values: Float64s, design: Float64s, patients: Rows, df: int, confidence: float) -> Estimate:
    """Estimate the same where each patient has a level of its own, normally distributed (by REML).

    One number is searched for, the variance of the levels over that of slides, and without gradients: with them
    statsmodels fails on some data, or stops early. The interval is that of t with `df` degrees of freedom: that of the
    normal distribution, which statsmodels takes, is too narrow with few patients.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # patients may be as alike as slides are: a variance of 0, no failure
        fitted = MixedLM(values, design, groups=patients).fit(reml=True, method="powell")
    return _interval(fitted.fe_params[1], fitted.bse_fe[1], df, confidence)


def _interval(effect: float, error: float, df: float, confidence: float) -> Estimate:
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * error
    return Estimate(float(effect), float(effect - half), float(effect + half))


def degrees_of_freedom(design: Float64s, patients: Rows, *, is_within: bool) -> int:
    """Count the degrees of freedom of an effect within patients, or between them (Schluchter & Elashoff 1990)."""
    codes = np.unique(patients, return_inverse=True)[1]
    sizes = np.bincount(codes)
    sums = np.zeros((len(sizes), design.shape[1]))
    np.add.at(sums, codes, design)
    means = sums / sizes[:, None]
    if is_within:
        return len(design) - len(sizes) - int(np.linalg.matrix_rank(design - means[codes]))
    return len(sizes) - int(np.linalg.matrix_rank(means))
