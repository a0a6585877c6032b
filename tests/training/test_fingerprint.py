"""What makes a run another one, so that a checkpoint is not gone on with; and what does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stdistill._support.files import describe_changes
from stdistill._training.arguments import DEFAULTS
from stdistill._training.fingerprint import fingerprint_run


def of(*settings: Any, facts: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return fingerprint_run({**DEFAULTS, **changes}, *settings, **(facts or {}))  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("changes", "entry"),
    [
        ({"batch_size": 128}, "training"),
        ({"learning_rate": 1e-2}, "training"),
        ({"weight_decay": 0.0}, "training"),
        ({"seed": 1}, "training"),
        ({"max_epochs": 3}, "length"),
        ({"max_steps": 3}, "length"),
        ({"devices": 2}, "devices"),
        ({"num_nodes": 2}, "devices"),
        ({"precision": "bf16-mixed"}, "precision"),
    ],
)
def test_what_makes_it_another_run(changes: dict[str, Any], entry: str) -> None:
    before, now = of(), of(**changes)
    assert {name for name in before if before[name] != now[name]} == {entry}
    assert describe_changes(before, now).startswith(f"{entry}: ")


@pytest.mark.parametrize("changes", [{"n_workers": 4}, {"progress_bar": False}, {"checkpoint_dir": "elsewhere"}])
def test_what_does_not(changes: dict[str, Any]) -> None:
    """What changes no result; also the folder may be moved."""
    assert of(**changes) == of()


def test_settings_and_facts() -> None:
    assert of(0.5) != of(0.6) != of()
    assert of(1, 2) != of(2, 1)
    assert of(facts={"data": "ab"})["data"] == "ab"
    assert describe_changes(of(facts={"data": "ab"}), of(facts={"data": "cd"})) == "data: 'ab', now 'cd'"
    found = of("flat", 0.5, facts={"n_cells": 7})
    assert json.loads(json.dumps(found)) == found  # as a checkpoint keeps it
