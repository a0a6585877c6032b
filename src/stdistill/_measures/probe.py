"""A linear probe: classes predicted from niches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Rows


def predict_linear(inputs: npt.NDArray[Any], classes: Rows, fit: Rows, score: Rows) -> npt.NDArray[np.integer]:
    """Fit on some cells and predict the classes of others."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if inputs.ndim == 2:
        machine = make_pipeline(StandardScaler(), LinearSVC(dual=False)).fit(inputs[fit], classes[fit])
        predicted: npt.NDArray[np.integer] = machine.predict(inputs[score])
        return predicted
    # A one-hot niche has few values: fit to each pair of niche and class once, with the number of its cells as weight.
    one_hot = np.eye(inputs.max() + 1)
    pairs, counts = np.unique(np.stack([inputs[fit], classes[fit]]), axis=1, return_counts=True)
    machine = LinearSVC(dual=False).fit(one_hot[pairs[0]], pairs[1], sample_weight=counts)
    return np.asarray(machine.predict(one_hot)[inputs[score]])
