"""Whether a model is as often right as it says, and what to divide its logits by so that it is."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from stdistill._support.arrays import Floats, Integers

TEMPERATURES = (0.2, 20.0)
"""Bounds of the search: a student that was right of a few hundred cells is not right for ever."""
N_BINS = 15
UNDERFLOW = np.errstate(under="ignore")
"""What is all but impossible has the probability 0; where users have that raised, it must not end a training."""


@UNDERFLOW
def fit_temperature(logits: Floats, labels: Integers) -> float:
    """Find the number by which to divide logits (n, k) so that the labels (n,) are the most likely.

    It changes how sure a model is and never what it says: temperature scaling, Guo et al. 2017, section 4.2.
    """
    logits = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(labels))

    def surprise(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean())

    found = minimize_scalar(surprise, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


@UNDERFLOW
def calibration_error(logits: Floats, labels: Integers, temperature: float = 1.0) -> float:
    """Mean distance between how sure a model is and how often it is right, in 15 bins of confidence.

    The expected calibration error of Guo et al. 2017, section 2, of logits (n, k) and labels (n,).
    """
    import torch  # loads for seconds
    from torchmetrics.functional.classification import multiclass_calibration_error

    shares = torch.from_numpy(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))
    truth = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    return float(multiclass_calibration_error(shares, truth, num_classes=shares.shape[1], n_bins=N_BINS))
