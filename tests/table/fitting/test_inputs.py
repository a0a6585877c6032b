"""Features of several tables that go by one name."""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pytest

from stdistill._table.fitting.inputs import check_features


@pytest.mark.parametrize(("use_rep", "loadings"), [("X_pca", "PCs"), ("X_pca_hvg", "X_pca_hvg")])
def test_principal_components_of_each_table(make_cells: Callable[..., ad.AnnData], use_rep: str, loadings: str) -> None:
    """As scanpy keeps them; the sign of one axis is enough to make them others."""
    one, other = make_cells(5), make_cells(4)
    for cells in (one, other):
        cells.obsm[use_rep] = np.ones((cells.n_obs, 2), dtype=np.float32)
        cells.varm[loadings] = np.array([[0.6, 0.8], [0.8, -0.6]])
    check_features([one, other], use_rep)
    check_features([one, other[:, ::-1].copy()], use_rep)  # genes in another order
    other.varm[loadings] = other.varm[loadings] * [1, -1]
    with pytest.raises(ValueError, match=rf"'{use_rep}'\] are principal components .*\.varm\['{loadings}'\]"):
        check_features([one, other], use_rep)
    del other.varm[loadings]  # nobody knows
    check_features([one, other], use_rep)
