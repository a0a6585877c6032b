"""scikit-learn's k-means of neighbourhood means, of the latent as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from runner import main
from scipy.sparse import csr_matrix, eye_array
from sklearn.cluster import KMeans


def find(cells: Any, latent: str, k: int, seed: int) -> Any:
    """Find niches by k-means of the mean over each cell and its neighbourhood."""
    around = csr_matrix(cells.obsp["spatial_connectivities"] + eye_array(cells.n_obs))
    means = around @ cells.obsm[latent] / np.asarray(around.sum(axis=1)).reshape(-1, 1)
    return KMeans(k, n_init=10, random_state=seed).fit_predict(means)


if __name__ == "__main__":
    main(find, "scikit-learn")
