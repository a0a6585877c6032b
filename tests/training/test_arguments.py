from __future__ import annotations

from typing import Any, get_type_hints

import numpy as np
import pytest

from stdistill._training.arguments import DEFAULTS, TrainingArguments, check_training


def check(**changes: Any) -> None:
    check_training({**DEFAULTS, **changes})  # type: ignore[typeddict-item]


def test_every_argument_has_a_default_that_is_allowed() -> None:
    assert set(DEFAULTS) == set(get_type_hints(TrainingArguments))
    check()


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 1},
        {"batch_size": np.int64(64)},
        {"learning_rate": 1},
        {"learning_rate": np.float32(1e-4)},
        {"max_epochs": 1, "max_steps": 1},
        {"max_steps": -1},
        {"seed": 2**32 - 1},
    ],
)
def test_what_users_pass(changes: dict[str, Any]) -> None:
    check(**changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, found 0"),
        ({"batch_size": 64.0}, TypeError, r"batch_size must be an integer, found 64\.0 \(float\)"),
        ({"batch_size": True}, TypeError, "batch_size must be an integer, found True"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be positive and finite, found 0"),
        ({"learning_rate": float("inf")}, ValueError, "learning_rate must be positive and finite"),
        ({"learning_rate": "1e-3"}, TypeError, r"learning_rate must be a number, found '1e-3' \(str\)"),
        ({"max_epochs": 0}, ValueError, "max_epochs must be at least 1, found 0"),
        ({"max_epochs": -1}, ValueError, "max_epochs must be at least 1, found -1"),
        ({"max_steps": 0}, ValueError, "max_steps to be at least 1, or -1 for no limit, found 0"),
        ({"max_steps": -2}, ValueError, "max_steps must be at least -1, found -2"),
        ({"seed": -1}, ValueError, "seed must be at least 0 and at most 4294967295, found -1"),
        ({"seed": 2**32}, ValueError, "seed must be at least 0 and at most 4294967295"),
    ],
)
def test_arguments_out_of_range(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check(**changes)
