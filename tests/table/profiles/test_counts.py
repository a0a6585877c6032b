from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from stdistill._table.profiles.counts import get_counts


def table() -> ad.AnnData:
    values = np.random.default_rng(0).poisson(1, (20, 5)).astype(np.float32)
    return ad.AnnData(csr_matrix(values), layers={"raw": values.copy()})


def test_counts_are_shared() -> None:
    adata = table()
    assert np.shares_memory(get_counts(adata, None, "scVI needs").data, adata.X.data)
    assert np.shares_memory(get_counts(adata, "raw", "scVI needs"), adata.layers["raw"])


def test_by_column_they_become_by_row() -> None:
    adata = table()
    adata.X = csc_matrix(adata.X)
    found = get_counts(adata, None, "scVI needs")
    assert found.format == "csr"
    np.testing.assert_array_equal(found.toarray(), adata.layers["raw"])


def test_the_message_says_who_asks() -> None:
    adata = table()
    adata.X = csr_matrix(np.log1p(adata.layers["raw"]))
    message = r"\.X holds 0\.693147, which is no count.*normalised.*markers need raw counts: name the layer.*'raw'"
    with pytest.raises(ValueError, match=message):
        get_counts(adata, None, "markers need")
    with pytest.raises(KeyError, match="layer='counts' is not a layer of the table; there is: 'raw'"):
        get_counts(adata, "counts", "markers need")
