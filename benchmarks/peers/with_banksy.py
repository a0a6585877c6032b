# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["pybanksy==1.3.5"]
# ///
"""BANKSY (Singhal et al. 2024): its matrix of cell, mean and gradient at the weight for domains, then k-means.

The package clusters by Leiden, whose resolution does not say how many clusters come out. All methods here are asked for
one number, so that its matrix is reduced to 20 principal components, as it does, and clustered by k-means.
"""

from __future__ import annotations

from typing import Any

import anndata as ad
from banksy.embed_banksy import generate_banksy_matrix
from banksy.initialize_banksy import initialize_banksy
from runner import main
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

N_NEIGHBORS = 15
WEIGHT = 0.8
"""Of the neighbours: that of its documentation for domains."""
ORDER = 1
N_COMPONENTS = 20


def find(cells: Any, latent: str, k: int, seed: int) -> Any:
    """Find niches, with the dimensions of the latent as genes."""
    table = ad.AnnData(cells.obsm[latent].astype(float), obs=cells.obs[[]], obsm={"spatial": cells.obsm["spatial"]})
    table.obs["x"], table.obs["y"] = table.obsm["spatial"].T
    graphs = initialize_banksy(
        table,
        ("x", "y", "spatial"),
        N_NEIGHBORS,
        max_m=ORDER,
        plt_edge_hist=False,
        plt_nbr_weights=False,
        plt_theta=False,
    )
    _, matrix = generate_banksy_matrix(table, graphs, [WEIGHT], ORDER, verbose=False)
    reduced = PCA(min(N_COMPONENTS, matrix.n_vars), random_state=seed).fit_transform(matrix.X)
    return KMeans(k, n_init=10, random_state=seed).fit_predict(reduced)


if __name__ == "__main__":
    main(find, "pybanksy")
