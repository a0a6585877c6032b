"""Counts of parts as centred log-ratios."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Float64s

PSEUDOCOUNT = 0.5
"""Cells that are added to every part: with half a one the logarithm of a count has the least bias (Anscombe 1956)."""


def centred_log_ratios(counts: npt.NDArray[np.integer]) -> Float64s:
    """Compute the logarithm of each part over the geometric mean of all parts, (n, k), of counts of cells (n, k).

    What is added to counts is the same number of cells everywhere: no cell of 100,000 says more than none of 100, and a
    fixed share in the place of zeros would make both the same.
    """
    logs = np.log(counts + PSEUDOCOUNT)
    centred: Float64s = logs - logs.mean(axis=1, keepdims=True)
    return centred
