"""What a composition model must beat: the nearest rows of the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors

from stdistill._support.arrays import Floats, Integers
from stdistill.models.composition.folds import Fold
from stdistill.models.features import ReadableRows, as_tensor, feature_statistics, standardize, usable_spread

N_NEIGHBORS = (5, 10, 20, 40, 80)
MOST_ROWS = 20_000
"""Of larger trainings as many are drawn: neighbours in hundreds of dimensions are found by looking at all of them."""
ROWS_AT_ONCE = 4096


def predict_nearest(
    rows: ReadableRows, targets: Floats, cells: Integers, folds: Sequence[Fold], places: Integers, *, seed: int
) -> npt.NDArray[np.float32]:
    """Average the abundances of the nearest training rows, as many as predict held-out rows best.

    Parameters
    ----------
    rows, targets
        Features, and abundances (n, types).
    cells
        The training rows.
    folds
        Of these: rows to learn from, and rows to choose the number of neighbours by, by mean squared error.
    places
        Rows to predict.
    seed
        Of the rows that are drawn of a large training.

    Returns
    -------
    (len(places), types).
    """
    mean, std = feature_statistics([rows], cells)
    spread = usable_spread(std)
    rng = np.random.default_rng(seed)

    def read(some: Integers) -> Floats:
        values: Floats = standardize(as_tensor(rows[some]), mean, spread).numpy()
        return values

    def draw(some: Integers) -> Integers:
        return some if len(some) <= MOST_ROWS else np.sort(rng.choice(some, MOST_ROWS, replace=False))

    errors = np.zeros(len(N_NEIGHBORS))
    for fold in folds:
        fitting, held_out = draw(fold.fitting), draw(fold.held_out)
        search = NearestNeighbors(n_neighbors=min(max(N_NEIGHBORS), len(fitting))).fit(read(fitting))
        near = targets[fitting][search.kneighbors(read(held_out), return_distance=False)]
        errors += [float(((near[:, :k].mean(axis=1) - targets[held_out]) ** 2).mean()) for k in N_NEIGHBORS]
    some = draw(cells)
    model = KNeighborsRegressor(min(N_NEIGHBORS[int(errors.argmin())], len(some))).fit(read(some), targets[some])
    parts = [model.predict(read(places[i : i + ROWS_AT_ONCE])) for i in range(0, len(places), ROWS_AT_ONCE)]
    return np.concatenate(parts).astype(np.float32)
