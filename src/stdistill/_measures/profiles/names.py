"""Names for niches, from what they are made of."""

from __future__ import annotations

import pandas as pd

LEAST_SHARE = 0.1
"""A cell type that is named makes up this share of the niche at least …"""
LEAST_ENRICHMENT = 0.5
"""… and is enriched by this much (log2) …"""
LEAST_CELLS = 5
"""… in so many cells."""
MOST_PARTS = 2
"""Of a name."""
MOST_Q, LEAST_CHANGE, LEAST_EXPRESSING = 0.05, 1.0, 0.25
"""A marker that is named is no chance finding, twice as high as elsewhere, and there in a quarter of the cells."""


def suggest_names(niches: list[str], cell_types: pd.DataFrame, markers: pd.DataFrame) -> list[str | None]:
    """Name each niche by its enriched cell types, else by its markers; `None` where neither says anything.

    Names that would be alike are told apart by the best marker, else by a number. The rules are our choice.
    """
    genes = {niche: _markers(markers[markers["niche"] == niche]) for niche in niches}
    names = [
        _by_types(cell_types[cell_types["niche"] == niche]) or " ".join(genes[niche][:MOST_PARTS]) or None
        for niche in niches
    ]
    alike = {name for name in names if name is not None and names.count(name) > 1}
    told = [
        f"{name} ({genes[niche][0]})" if name in alike and genes[niche] and genes[niche][0] not in str(name) else name
        for niche, name in zip(niches, names, strict=True)
    ]
    return [
        f"{name} {told[: place + 1].count(name)}" if name is not None and told.count(name) > 1 else name
        for place, name in enumerate(told)
    ]


def _by_types(rows: pd.DataFrame) -> str | None:
    """Join the types that set a niche most apart, else say what it has most of."""
    if rows.empty:
        return None
    is_named = (
        (rows["share"] >= LEAST_SHARE)
        & (rows["log2_enrichment"] >= LEAST_ENRICHMENT)
        & (rows["n_cells"] >= LEAST_CELLS)
    )
    weights = (rows["share"] * rows["log2_enrichment"])[is_named].sort_values(ascending=False, kind="stable")
    named = rows.loc[weights.index[:MOST_PARTS], "cell_type"]
    if len(named):
        return " + ".join(map(str, named))
    return f"mixed, mostly {rows['cell_type'].iloc[rows['share'].argmax()]}"


def _markers(rows: pd.DataFrame) -> list[str]:
    kept = rows[
        (rows["q"] <= MOST_Q) & (rows["log2_fold_change"] >= LEAST_CHANGE) & (rows["share_in"] >= LEAST_EXPRESSING)
    ]
    return [f"{gene}+" for gene in kept["gene"]]
