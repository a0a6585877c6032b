"""Linear probes: how much of the expression of tiles a representation tells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from stdistill._support.arrays import Float64s, Floats

PENALTIES = np.logspace(0, 6, 13)
"""α of the candidates (our choice)."""
N_COMPONENTS = 256
"""Of the protocol of HEST."""
ROWS_AT_ONCE = 4096

Predict = Callable[[Floats], Float64s]


def fit_ridge(features: Floats, targets: Float64s) -> Predict:
    """Fit a ridge regression with an intercept to standardised features (n, d).

    One penalty for all targets (n, t): the one that predicts each training row best from the others.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    machine = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    machine.fit(np.asarray(features, dtype=np.float64), targets)
    return partial(by_pieces, machine.predict)


def fit_hest_ridge(features: Floats, targets: Float64s) -> Predict:
    """Fit what the benchmark of HEST fits to features (n, d) and log(1 + counts) (n, t).

    At most 256 principal components of standardised features, a penalty of 100 / (components × genes), no intercept:
    predictions lie around 0 whatever the level of a gene is.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n_components = min(N_COMPONENTS, *features.shape)
    ridge = Ridge(
        solver="lsqr", alpha=100 / (n_components * targets.shape[1]), fit_intercept=False, max_iter=1000, random_state=0
    )
    machine = make_pipeline(StandardScaler(), PCA(n_components, random_state=0), ridge)
    machine.fit(np.asarray(features, dtype=np.float64), targets)
    return partial(by_pieces, machine.predict)


def by_pieces(function: Predict, features: Floats) -> Float64s:
    """Apply a function to features (n, d) piece by piece, so that no second copy of all of them is made."""
    pieces = [
        function(np.asarray(features[start : start + ROWS_AT_ONCE], dtype=np.float64))
        for start in range(0, len(features), ROWS_AT_ONCE)
    ]
    return np.concatenate(pieces)
