"""What tables must have for models to be fitted to them."""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stdistill._table.fitting.inputs import check_features, check_fittable


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


def test_features_that_were_fitted_on_test_cells_are_refused(make_cells: Callable[..., ad.AnnData]) -> None:
    cells = make_cells(4)
    cells.obsm["X_he"] = np.ones((4, 2), dtype=np.float32)
    cells.obs["split"] = pd.Categorical(["train", "train", "test", "test"])
    assert check_fittable([cells], "X_he", "split") == {}
    cells.obs["X_he_fitted"] = True
    with pytest.raises(ValueError, match=r"had a part in fitting \.obsm\['X_he'\]"):
        check_fittable([cells], "X_he", "split")
    with pytest.raises(KeyError, match="use_rep='X_scVI'"):
        check_fittable([cells], "X_scVI", "split")
