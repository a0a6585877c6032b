"""Measures as text, in the shape of papers' tables: methods down, numbers of niches or places across."""

from __future__ import annotations

import pandas as pd

AGREEMENT = {"ari": "ARI", "gain": "gain", "nmi": "NMI"}


def format_tables(
    agreement: pd.DataFrame, composition_jsd: pd.DataFrame | None, pathology_probe: pd.DataFrame | None
) -> str:
    """Write the tables there are, as in the paper: those of Hizmi et al. 2026."""
    tables = ["Agreement with the teacher\n" + _across(agreement, AGREEMENT, "%.3f")]
    if composition_jsd is not None:
        percent = composition_jsd.assign(share_random=100 * composition_jsd["share_random"])
        columns = {"jsd": "JSD", "share_random": "random (%)"}
        tables.append("Cell types of the niches, divergence from the teacher\n" + _across(percent, columns, "%.4f"))
    if pathology_probe is not None:
        tables.append(
            "Annotations predicted from niches\n" + _across(pathology_probe, {"macro_f1": "macro-F1"}, "%.3f")
        )
    return "\n\n".join(tables)


def format_recall(recall: pd.DataFrame) -> str:
    """Write recall at each percentage both ways, and chance below; slides one below the other, where there are several.

    Parameters
    ----------
    recall
        As :func:`stdistill.tl.retrieval` returns it.
    """
    chance = recall.drop_duplicates(["slide", "direction", "p"])
    rows = pd.concat([recall, chance.assign(method="chance", recall=chance["chance"])])
    names = {"he_to_expression": "H&E to expression", "expression_to_he": "expression to H&E"}
    rows = rows.assign(direction=rows["direction"].replace(names), p=[f"{p:g} %" for p in rows["p"]])
    several = rows["slide"].nunique() > 1
    index = ["slide", "method"] if several else ["method"]
    wide = rows.pivot(index=index, columns=["direction", "p"], values="recall")
    order = rows[index].drop_duplicates()
    if several:
        wide = wide.loc[list(order.sort_values("slide", kind="stable").itertuples(index=False, name=None))]
    else:
        wide = wide.loc[order["method"]]
    wide.columns.names, wide.index.names = [None, None], [None] * len(index)
    return wide.to_string(float_format="%.3f")


def _across(rows: pd.DataFrame, columns: dict[str, str], number: str) -> str:
    wide = rows.pivot(index="method", columns="k", values=list(columns)).rename(columns=columns, level=0)
    wide = wide.swaplevel(axis=1).rename(columns="K = {}".format, level=0)
    ks, methods = rows["k"].unique(), rows["method"].unique()
    order = [(f"K = {k}", name) for k in ks for name in columns.values()]
    ordered = wide.reindex(index=methods, columns=pd.MultiIndex.from_tuples(order))
    return ordered.rename_axis(index=None).to_string(float_format=lambda value: number % value)
