from __future__ import annotations

from typing import Any, get_type_hints

import numpy as np
import pytest

from stdistill.models.composition.arguments import (
    COMPOSITION_DEFAULTS,
    FittingArguments,
    check_fitting,
    network_arguments,
)
from stdistill.models.composition.network import CompositionNetwork


def check(**changes: Any) -> None:
    check_fitting({**COMPOSITION_DEFAULTS, **changes})  # type: ignore[typeddict-item]


def test_every_argument_has_a_default_that_is_allowed() -> None:
    assert set(COMPOSITION_DEFAULTS) == set(get_type_hints(FittingArguments))
    check()
    network = CompositionNetwork(3, 2, **network_arguments(COMPOSITION_DEFAULTS))
    assert len([each for each in network.parameters() if each.ndim == 2]) == COMPOSITION_DEFAULTS["depth"]


@pytest.mark.parametrize(
    "changes",
    [
        {"mae_weight": 0, "pearson_weight": np.float32(0)},
        {"dropout": 0.99, "depth": 1},
        {"output": "softmax", "pearson_axis": "spot"},
        {"method": "ridge", "n_members": 1},
        {"method": "ridge", "standardize": "slide"},
        {"use_neighbors": np.True_},
    ],
)
def test_what_users_pass(changes: dict[str, Any]) -> None:
    check(**changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"method": "forest"}, ValueError, r"method must be one of \['mlp', 'ridge'\], found 'forest'"),
        ({"standardize": "row"}, ValueError, r"standardize must be one of \['training', 'slide'\], found 'row'"),
        ({"output": "relu"}, ValueError, r"output must be one of \['linear', 'softmax'\], found 'relu'"),
        ({"pearson_axis": 0}, ValueError, r"pearson_axis must be one of \['flat', 'type', 'spot'\], found 0"),
        ({"depth": 0}, ValueError, "depth must be at least 1, found 0"),
        ({"n_members": 2.0}, TypeError, r"n_members must be an integer, found 2\.0"),
        ({"patience": 0}, ValueError, "patience must be at least 1, found 0"),
        ({"mae_weight": -0.1}, ValueError, r"mae_weight must be a finite number, 0 or more, found -0\.1"),
        ({"pearson_weight": float("nan")}, ValueError, "pearson_weight must be a finite number"),
        ({"pearson_weight": True}, ValueError, "pearson_weight must be a finite number, 0 or more, found True"),
        ({"dropout": 1}, ValueError, "dropout must be less than 1, found 1"),
        ({"use_neighbors": 1}, TypeError, "use_neighbors must be True or False, found 1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"method": "ridge", "output": "softmax"}, ValueError, "output='softmax' goes with method='mlp'"),
    ],
)
def test_arguments_out_of_range(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check(**changes)
