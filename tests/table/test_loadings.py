"""Principal components that are told from others by the genes that lead them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stdistill._table.loadings import describe_loadings, find_loadings, is_described

LOADINGS = np.array([[0.6, 0.1], [-0.8, 0.3], [0.0, -0.9]])


def make(loadings: np.ndarray = LOADINGS, genes: str = "ABC") -> ad.AnnData:
    table = ad.AnnData(np.zeros((4, len(genes))), var=pd.DataFrame(index=list(genes)))
    table.obsm["X_pca"] = np.zeros((4, 2), dtype=np.float32)
    table.varm["PCs"] = loadings
    return table


def test_each_component_is_described_by_the_gene_that_leads_it() -> None:
    assert describe_loadings(find_loadings(make(), "X_pca")) == [
        {"gene": "B", "loading": -0.8},
        {"gene": "C", "loading": -0.9},
    ]
    assert find_loadings(make(), "X_scVI") is None


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (make(LOADINGS.astype(np.float16)), True),
        (make(LOADINGS[::-1], "CBA"), True),
        (make(LOADINGS[:2], "AB"), True),  # one of the leading genes is enough
        (make(LOADINGS[:1], "A"), None),
        (make(genes="ABB"), None),  # no B is the one that is meant, and C is gone
        (make(LOADINGS * [1, -1]), False),
        (make(LOADINGS[:, ::-1]), False),
        (make(np.hstack([LOADINGS, LOADINGS])), True),  # features may be the first of more components
        (make(LOADINGS * 1.01), False),
    ],
)
def test_the_same_but_for_rounding(other: ad.AnnData, expected: bool | None) -> None:
    described = describe_loadings(find_loadings(make(), "X_pca"))
    assert is_described(find_loadings(other, "X_pca"), described) is expected
    assert is_described(find_loadings(other, "X_pca"), None) is None
    assert is_described(None, described) is None
