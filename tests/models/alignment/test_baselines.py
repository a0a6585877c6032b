from __future__ import annotations

import numpy as np
import pytest
import torch

from stdistill._measures.alignment.recall import partner_ranks
from stdistill.models.alignment import baselines as alignment_baselines
from stdistill.models.alignment.baselines import project_by_infonce


def tiles(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of tiles, and what is known of their cells, that have causes in common."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(n, 8))
    features = causes @ rng.normal(size=(8, 50)) + rng.normal(size=(n, 50))
    cells = causes @ rng.normal(size=(8, 20)) + rng.normal(size=(n, 20))
    return features.astype(np.float16), cells


def test_partners_are_found_in_tiles_that_were_not_fitted() -> None:
    features, cells = tiles()
    found = project_by_infonce(features, cells, np.arange(200), seed=0)
    for ranks in partner_ranks(found.he[200:], found.expression[200:]):
        assert (ranks <= 10).mean() > 0.6  # chance: 0.1


def test_a_seed_gives_the_same_whatever_else_is_drawn() -> None:
    features, cells = tiles()
    torch.manual_seed(1)
    one = project_by_infonce(features, cells, np.arange(200), seed=0)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = project_by_infonce(features, cells, np.arange(200), seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(one.he, again.he)
    other = project_by_infonce(features, cells, np.arange(200), seed=1)
    assert np.abs(other.he - one.he).max() > 0.01


def test_what_was_not_fitted_has_no_part() -> None:
    features, cells = tiles()
    one = project_by_infonce(features, cells, np.arange(200), seed=0)
    features[200:] = 9
    other = project_by_infonce(features, cells, np.arange(200), seed=0)
    np.testing.assert_array_equal(one.he[:200], other.he[:200])


def test_steps_are_fewer_where_there_is_nothing_to_learn() -> None:
    rng = np.random.default_rng(0)
    sides = tuple(torch.from_numpy(rng.normal(size=(300, 20)).astype(np.float32)) for _ in range(2))
    fitting, held_out = np.arange(240), np.arange(240, 300)
    _, noise = alignment_baselines._fit(sides, fitting, held_out, n_steps=300, seed=0)
    _, signal = alignment_baselines._fit((sides[0], sides[0]), fitting, held_out, n_steps=300, seed=0)
    assert noise < signal


def test_large_trainings_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment_baselines, "MOST_TILES", 64)
    features, cells = tiles()
    found = project_by_infonce(features, cells, np.arange(200), seed=0)
    assert (partner_ranks(found.he[200:], found.expression[200:])[0] <= 10).mean() > 0.6


@pytest.mark.parametrize("n", [3, 5, 12])
def test_few_tiles(n: int) -> None:
    features, cells = tiles(40)
    found = project_by_infonce(features, cells, np.arange(n), seed=0)
    assert np.isfinite(found.he).all()
    assert np.isfinite(found.expression).all()
