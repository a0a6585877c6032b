"""How the nuclei of a niche differ from those of the slide."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from stdistill._measures.labels import Labels
from stdistill._support.arrays import Float64s, Floats, Rows

QUARTERS = (0.25, 0.5, 0.75)
COLUMNS = [
    "niche",
    "measure",
    "n_cells",
    "median",
    "lower",
    "upper",
    "slide_median",
    "slide_lower",
    "slide_upper",
    "difference",
]


def sample_of_each(labels: Labels, n: int, seed: int) -> Rows:
    """Draw at most `n` cells of each niche, and return their rows in order."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels.codes == code) for code in range(len(labels.names))]
    drawn = [rng.choice(group, n, replace=False) if len(group) > n else group for group in groups]
    rows: Rows = np.sort(np.concatenate(drawn))
    return rows


def compare_measures(measures: Mapping[str, Floats], labels: Labels, rows: Rows) -> pd.DataFrame:
    """Describe each measure in each niche by its median and quartiles, against the slide.

    Parameters
    ----------
    measures
        Values (m,) of the cells drawn, NaN where a cell could not be measured.
    labels
        Niches of all cells.
    rows
        (m,), which cells were drawn. Niches of which a part was drawn count by their size in what is of the slide.
    """
    codes = labels.codes[rows]
    weights = _weights(labels, codes)
    found = []
    for measure, values in measures.items():
        known = np.isfinite(values)
        if not known.any():
            continue
        low, middle, high = weighted_quantiles(values[known], weights[known])
        for code in np.unique(codes[known]):
            of_niche = values[known & (codes == code)]
            lower, median, upper = np.quantile(of_niche, QUARTERS)
            difference = (median - middle) / (high - low) if high > low else np.nan
            row = (labels.names[code], measure, len(of_niche), median, lower, upper, middle, low, high, difference)
            found.append((code, row))
    rows_in_order = [row for _, row in sorted(found, key=lambda each: each[0])]
    return pd.DataFrame(rows_in_order, columns=COLUMNS)


def weighted_quantiles(values: Floats, weights: Float64s) -> Float64s:
    """Return the quartiles of values of which each stands for as many as its weight."""
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    places = np.searchsorted(cumulated, np.array(QUARTERS) * cumulated[-1])
    quantiles: Float64s = values[order][np.minimum(places, len(values) - 1)].astype(np.float64)
    return quantiles


def _weights(labels: Labels, codes: Rows) -> Float64s:
    """Say for how many cells of its niche each of those drawn stands."""
    k = len(labels.names)
    sizes, drawn = np.bincount(labels.codes[labels.known], minlength=k), np.bincount(codes, minlength=k)
    weights: Float64s = (sizes / np.maximum(drawn, 1))[codes]
    return weights
