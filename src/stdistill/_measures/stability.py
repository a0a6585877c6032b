"""How stable niches are over runs, for each number of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from stdistill._support.arrays import Integers

COLUMNS = ("k", "ari_runs", "ari_runs_min", "ari_runs_max", "ari_neighbors", "occupied_niches")


def agreement_of(pairs: Iterable[tuple[Integers, Integers]]) -> list[float]:
    from sklearn.metrics import adjusted_rand_score

    return [float(adjusted_rand_score(first, second)) for first, second in pairs]


def summarise(
    numbers: Sequence[int],
    within: Sequence[Sequence[float]],
    across: Sequence[Sequence[float]],
    occupied: Sequence[float],
) -> pd.DataFrame:
    """Bring the agreements into a frame; `across` are those with the runs of the number before."""
    beside = [[*values, *after] for values, after in zip(across, [*across[1:], []], strict=True)]
    columns = (
        np.array(numbers),
        np.array([np.mean(values) for values in within]),
        np.array([min(values) for values in within]),
        np.array([max(values) for values in within]),
        np.array([np.mean(values) if values else np.nan for values in beside]),
        np.array(occupied),
    )
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
