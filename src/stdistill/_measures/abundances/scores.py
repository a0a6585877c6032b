"""How well predicted abundances of cell types agree with the true ones: correlation, distance and skill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from stdistill._support.arrays import Float64s, Floats, Integers, Mask

ALL_TYPES = "all"
"""What scores of all types together are called."""
ROUNDING = 1e-6
"""What varies by a smaller part of its size is constant: float32 resolves no more, and its noise has no correlation."""


class Scores(NamedTuple):
    """Of all types; `of_types` has the same for each of them."""

    cc: float
    """Mean over sections of the mean over types of Pearson's correlation over a section's rows."""
    l1: float
    """Mean absolute error over rows and types."""
    skill: float
    """1 − `l1` over that of the training mean; NaN where it is not given, or is never wrong."""
    n_rows: int
    """Rows that were compared: both have values there."""
    n_undefined: int
    """Pairs of section and type of which the truth varies and the prediction does not."""
    of_types: pd.DataFrame
    """One row per type: ``cc``, ``l1``, ``skill``, ``n_undefined``."""

    def frame(self, types: Sequence[str]) -> pd.DataFrame:
        """One row per type, under its name, and one for all of them; with the number of rows."""
        total = pd.DataFrame([{name: getattr(self, name) for name in self.of_types.columns}])
        rows = pd.concat([self.of_types, total], ignore_index=True)
        rows.insert(0, "type", [*types, ALL_TYPES])
        rows.insert(4, "n_rows", self.n_rows)
        return rows


def score(predicted: Floats, truth: Floats, libraries: Integers, training_mean: Floats | None = None) -> Scores:
    """Score abundances (n, t) against the true ones.

    A type whose truth does not vary in a section says nothing there and takes no part in its correlation; one whose
    prediction alone does not vary has none either, and is counted.

    Parameters
    ----------
    predicted, truth
        (n, t); rows in which either has a NaN are left out.
    libraries
        Section (n,) of each row, as integers.
    training_mean
        Mean (t,) of each type over the rows that the prediction was fitted on, which `skill` compares with.

    Raises
    ------
    ValueError
        When the shapes do not go together, or no row has values in both.
    """
    _check_shapes(predicted, truth, libraries, training_mean)
    known: Mask = np.logical_not(np.isnan(predicted).any(axis=1) | np.isnan(truth).any(axis=1))
    n_rows, n_types = int(known.sum()), truth.shape[1]
    if n_rows == 0:
        msg = f"None of the {len(known)} rows has values in both the prediction and the truth: nothing can be scored."
        raise ValueError(msg)
    sections = np.unique(libraries[known], return_inverse=True)[1]
    correlations = np.empty((sections.max() + 1, n_types))
    says_nothing = np.empty(correlations.shape, dtype=bool)
    l1, l1_of_mean = np.empty(n_types), np.full(n_types, np.nan)
    for number in range(n_types):  # a column at a time: a million cells need no second table
        ours, theirs = predicted[known, number].astype(np.float64), truth[known, number].astype(np.float64)
        correlations[:, number], says_nothing[:, number] = _correlate(ours, theirs, sections)
        l1[number] = np.abs(ours - theirs).mean()
        if training_mean is not None:
            l1_of_mean[number] = np.abs(training_mean[number] - theirs).mean()
    undefined = np.isnan(correlations) & ~says_nothing
    of_types = pd.DataFrame(
        {
            "cc": _mean(correlations, axis=0),
            "l1": l1,
            "skill": _skill(l1, l1_of_mean),
            "n_undefined": undefined.sum(axis=0),
        }
    )
    return Scores(
        cc=float(_mean(_mean(correlations, axis=1)[None], axis=1)[0]),
        l1=float(l1.mean()),
        skill=float(_skill(l1.mean(keepdims=True), l1_of_mean.mean(keepdims=True))[0]),
        n_rows=n_rows,
        n_undefined=int(undefined.sum()),
        of_types=of_types,
    )


def _correlate(ours: Float64s, theirs: Float64s, sections: Integers) -> tuple[Float64s, Mask]:
    """Correlate two columns (n,) within each section; NaN where either is constant, and where the truth is."""
    our_offsets, our_spreads, our_constant = _centre(ours, sections)
    their_offsets, their_spreads, their_constant = _centre(theirs, sections)
    products = np.bincount(sections, our_offsets * their_offsets)
    correlations = np.full(len(products), np.nan)
    varies = ~(our_constant | their_constant)
    np.divide(products, our_spreads * their_spreads, out=correlations, where=varies)
    return np.clip(correlations, -1, 1), their_constant


def _centre(values: Float64s, sections: Integers) -> tuple[Float64s, Float64s, Mask]:
    """Subtract each section's mean; with the root of the sum of squares, and whether that is rounding alone."""
    means = np.bincount(sections, values) / np.bincount(sections)
    centred = values - means[sections]
    spread = np.sqrt(np.bincount(sections, centred**2))
    return centred, spread, spread <= ROUNDING * np.sqrt(np.bincount(sections, values**2))


def _mean(values: Float64s, axis: int) -> Float64s:
    """Average what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    n_known = known.sum(axis=axis)
    means = np.full(n_known.shape, np.nan)
    np.divide(np.where(known, values, 0).sum(axis=axis), n_known, out=means, where=n_known > 0)
    return means


def _skill(l1: Float64s, l1_of_mean: Float64s) -> Float64s:
    """Compare with the error of the training mean; NaN where that is 0 or not known."""
    ratios = np.full(l1.shape, np.nan)
    np.divide(l1, l1_of_mean, out=ratios, where=l1_of_mean > 0)
    return 1 - ratios


def _check_shapes(predicted: Floats, truth: Floats, libraries: Integers, training_mean: Floats | None) -> None:
    """Raise unless all are of the same rows and types, of which there are some."""
    if predicted.ndim != 2 or predicted.shape != truth.shape or predicted.shape[1] == 0:
        msg = f"Prediction {predicted.shape} and truth {truth.shape} must have the same shape (rows, types)."
        raise ValueError(msg)
    if libraries.shape != predicted.shape[:1]:
        msg = f"libraries has the shape {libraries.shape}; expected a section for each of the {len(predicted)} rows."
        raise ValueError(msg)
    if training_mean is not None and np.shape(training_mean) != predicted.shape[1:]:
        msg = f"training_mean has the shape {np.shape(training_mean)}; expected one number for each of the types."
        raise ValueError(msg)
