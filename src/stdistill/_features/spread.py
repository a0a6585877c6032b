"""Whether features still tell cells apart once they are rounded to what they are stored as."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stdistill._support.warn import warn

N_LOOKED_AT = 5_000
"""Cells that tell how much features vary."""
FEWEST = 10
LEAST_SHARE = 0.05
"""Features that vary by more than their rounding, of all, below which hardly anything is left (our choice)."""


def warn_of_lost_spread(features: npt.NDArray[np.float16], key: str, encoder: str) -> None:
    """Warn when nearly all features (n, d) are one number for all cells, or vary by less than float16 resolves."""
    known = np.flatnonzero(~np.isnan(features[:, 0]))
    if len(known) < FEWEST:
        return
    some = known[np.unique(np.linspace(0, len(known) - 1, N_LOOKED_AT).astype(np.int64))]
    values = features[some].astype(np.float32)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    step = np.spacing(np.abs(mean).astype(np.float16)).astype(np.float32)
    n_varied = int((spread >= step).sum())
    if n_varied < LEAST_SHARE * len(mean):
        warn(
            f".obsm[{key!r}] hardly tells cells apart: {len(mean) - n_varied} of the {len(mean)} features of {encoder} "
            f"vary by less than a step of float16, in which they are stored (median of the features "
            f"{np.median(np.abs(mean)):.3g}, there a step is {np.median(step):.2g} and the standard deviation "
            f"{np.median(spread):.2g}). An encoder whose output lies around 0 with a spread of about 1 loses nothing: "
            "let it subtract the mean; or is the image blank?"
        )
