from __future__ import annotations

import warnings

import numpy as np
import pytest

from stdistill._features.spread import warn_of_lost_spread

RNG = np.random.default_rng(0)


def is_warned_of(features: np.ndarray) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_lost_spread(features.astype(np.float16), "X_he", "own")
    return bool(caught)


def test_a_spread_beside_a_large_offset_is_lost() -> None:
    """At 1,000 float16 has steps of 0.5."""
    plain = RNG.normal(0, 0.1, (400, 30))
    assert not is_warned_of(plain)
    assert is_warned_of(plain + 1000)
    assert not is_warned_of(plain * 50 + 1000)
    mixed = plain.copy()
    mixed[:, :20] += 1000  # the others still tell cells apart
    assert not is_warned_of(mixed)
    with pytest.warns(UserWarning, match=r"30 of the 30 features of own vary.*a step is 0\.5 and the standard"):
        warn_of_lost_spread((plain + 1000).astype(np.float16), "X_he", "own")


def test_one_number_for_all_cells() -> None:
    assert is_warned_of(np.zeros((400, 30)))
    assert is_warned_of(np.full((400, 30), 0.3))
    some_dead = np.where(np.arange(30) < 25, 0, RNG.normal(size=(400, 30)))
    assert not is_warned_of(some_dead)


def test_cells_off_the_image_say_nothing() -> None:
    features = RNG.normal(size=(400, 30))
    features[5:] = np.nan
    assert not is_warned_of(np.zeros((400, 30)) * features)  # too few
    features = np.where(np.arange(400)[:, None] % 2 == 0, np.nan, RNG.normal(size=(400, 30)))
    assert not is_warned_of(features)
