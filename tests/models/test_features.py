from __future__ import annotations

import numpy as np
import pytest
import torch

import stdistill.models.features as features_of_models
from stdistill.models.features import feature_statistics, known_rows, standardize, usable_spread


def test_known_rows_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_of_models, "ROWS_AT_ONCE", 4)
    features = np.zeros((10, 3), dtype=np.float16)
    features[[2, 9], [0, 2]] = np.nan
    expected = [row not in (2, 9) for row in range(10)]
    assert known_rows(features).tolist() == expected
    assert known_rows(torch.from_numpy(features)).tolist() == expected
    features[5, 1] = np.inf
    with pytest.raises(ValueError, match="infinite values"):
        known_rows(features)


def test_feature_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_of_models, "ROWS_AT_ONCE", 64)
    rng = np.random.default_rng(0)
    features = rng.normal(100, 0.1, size=(1000, 4)).astype(np.float32)
    features[:, 3] = 7
    cells = rng.permutation(1000)[:700]
    mean, std = feature_statistics([features], cells)
    np.testing.assert_allclose(mean, features[cells].astype(np.float64).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std, features[cells].astype(np.float64).std(axis=0), rtol=1e-4)
    assert std[3] == 0


def test_all_but_constant_features_are_divided_by_the_spread_of_the_others() -> None:
    spread = usable_spread(torch.tensor([2.0, 0.0, 1e-9, 4.0, 3.0]))
    assert spread.tolist() == [2.0, 2.0, 2.0, 4.0, 3.0]
    found = standardize(torch.tensor([[4.0, 1.0]], dtype=torch.float16), torch.zeros(2), torch.tensor([2.0, 1e-6]))
    assert found.tolist() == [[2.0, 10.0]]
    assert found.dtype == torch.float32
