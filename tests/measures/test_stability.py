from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from stdistill._measures.stability import COLUMNS, agreement_of, summarise


def test_agreement_of_runs() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    same = np.array([2, 0, 1])[one]
    found = agreement_of([(one, same), (one, other)])
    assert found == [1.0, adjusted_rand_score(one, other)]
    assert agreement_of([]) == []


def test_each_number_beside_those_before_and_after() -> None:
    """Of three numbers of niches: the first is compared with the second alone, the second with both."""
    within = [[0.2, 0.6], [0.5, 0.5], [0.9, 0.1]]
    across: list[list[float]] = [[], [0.3, 0.5], [0.8, 0.6]]
    found = summarise([5, 10, 20], within, across, [5.0, 9.5, 12.0])
    expected = pd.DataFrame(
        {
            "k": [5, 10, 20],
            "ari_runs": [0.4, 0.5, 0.5],
            "ari_runs_min": [0.2, 0.5, 0.1],
            "ari_runs_max": [0.6, 0.5, 0.9],
            "ari_neighbors": [0.4, 0.55, 0.7],
            "occupied_niches": [5.0, 9.5, 12.0],
        }
    )
    assert list(found.columns) == list(COLUMNS)
    pd.testing.assert_frame_equal(found, expected)


def test_a_number_alone_has_no_neighbours() -> None:
    assert np.isnan(summarise([5], [[0.5]], [[]], [4.0])["ari_neighbors"]).all()
