"""How much more of something a niche has than chance would give it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._measures.composition import shares
from stdistill._support.arrays import Float64s, Integers

ADDED = 1.0
"""Added to both numbers before they are compared: what is seen in a handful of cells is not called enriched."""


def log2_enrichment(counts: Integers | Float64s, expected: Float64s) -> Float64s:
    """Compare counts with what is expected, drawn towards 0 where both are small."""
    ratios: Float64s = np.log2((counts + ADDED) / (expected + ADDED))
    return ratios


def enrich_types(counts: npt.NDArray[np.int64], niches: list[str], cell_types: list[str]) -> pd.DataFrame:
    """Compare the cell types of niches (niches, types) with those of the whole slide, the most enriched first."""
    of_slide = counts.sum(axis=0) / counts.sum()
    expected = counts.sum(axis=1, keepdims=True) * of_slide
    frame = _frame(
        niches,
        cell_types,
        "cell_type",
        n_cells=counts,
        expected=expected,
        share=shares(counts),
        slide_share=np.broadcast_to(of_slide, counts.shape),
        log2_enrichment=log2_enrichment(counts, expected),
    )
    there = (counts.sum(axis=1, keepdims=True) > 0) & (counts.sum(axis=0) > 0)  # of others nothing is known
    return _sorted(frame[there.ravel()], "log2_enrichment")


def border_niches(pairs: Float64s, sizes: Integers, niches: list[str]) -> pd.DataFrame:
    """Tell on which other niches each one borders, and how much more than their sizes explain.

    Parameters
    ----------
    pairs
        (k, k), numbers of neighbours in niche j of the cells of niche i.
    sizes
        (k,), cells of each niche.
    niches
        Their names.
    """
    others = np.where(np.eye(len(sizes), dtype=bool), 0.0, pairs)
    room = (sizes.sum() - sizes)[:, None]
    chance = np.divide(sizes, room, out=np.zeros(others.shape), where=room > 0)
    expected = others.sum(axis=1, keepdims=True) * chance
    totals = pairs.sum(axis=1, keepdims=True)
    frame = _frame(
        niches,
        niches,
        "neighbor",
        n_pairs=others.astype(np.int64),
        share=np.divide(others, totals, out=np.full(others.shape, np.nan), where=totals > 0),
        border_share=shares(others),
        log2_enrichment=log2_enrichment(others, expected),
    )
    kept = ~np.eye(len(sizes), dtype=bool) & (sizes > 0) & (sizes > 0)[:, None]
    return _sorted(frame[kept.ravel()], "n_pairs")


def _frame(niches: list[str], columns: list[str], name: str, **values: Integers | Float64s) -> pd.DataFrame:
    """Lay matrices (niches, columns) out as a tidy frame, row by row."""
    places = {"niche": np.repeat(niches, len(columns)), name: np.tile(columns, len(niches))}
    return pd.DataFrame({**places, **{key: np.ravel(each) for key, each in values.items()}})


def _sorted(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Sort the rows of each niche by a column, the largest first; the niches stay in their order."""
    order = pd.Series(pd.factorize(frame["niche"])[0], index=frame.index)
    keys = frame.assign(_niche=order).sort_values(["_niche", by], ascending=[True, False], kind="stable").index
    return frame.loc[keys].reset_index(drop=True)
