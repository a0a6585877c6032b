"""What is asked of functions that embed an H&E; encoders of features that are there need not be at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import stdistill as sd
from stdistill._features.inputs import check_run, check_sides, describe_encoders, find_encoders
from stdistill._features.store import FeatureStore, prepare_store

PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def check(**changes: Any) -> None:
    how = {"batch_size": None, "precision": None, "device": None, "devices": 1, "num_nodes": 1, "store": None}
    check_run(**how | changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, found 0"),
        ({"batch_size": 1.5}, TypeError, "batch_size must be an integer"),
        ({"precision": "half"}, ValueError, r"precision must be one of \[None, 'float32', .*found 'half'"),
        ({"device": "gpu"}, ValueError, r"device must be one of \[None, 'cpu', 'cuda', 'mps'\], found 'gpu'"),
        ({"devices": 2}, ValueError, "Several devices write to one store: name a folder that all of them reach"),
        ({"num_nodes": 2}, ValueError, "Several devices write to one store"),
    ],
)
def test_what_cannot_be_run(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check(**changes)


def test_crops_that_are_too_small() -> None:
    """Of 64 px, cut into four along a side, remain 16; the larger of two least sides counts."""
    texture = sd.encoders.get("texture")
    larger = replace(texture, name="larger", min_px=40)
    with pytest.raises(
        ValueError, match=r"'texture' takes crops as .* at least 32 px .* have 16 px\. Give 160\. Encod"
    ):
        check_sides([texture, larger], 64, "Give {}.", n_along=4)
    with pytest.raises(ValueError, match=r"'texture' takes crops as .* have 31 px\. Give 32"):
        check_sides([texture], 31, "Give {}.")


def test_crops_that_are_taken() -> None:
    texture, resampled = sd.encoders.get("texture"), sd.encoders.get("resnet18", weights="random")
    any_side = replace(texture, min_px=None)
    check_sides([texture, replace(texture, min_px=128)], 128, "")
    check_sides([any_side, resampled, replace(resampled, min_px=32)], 16, "")


def test_what_can() -> None:
    check()
    check(batch_size=np.int64(8), precision="bfloat16", device="cuda", devices=[0, 1], num_nodes=2, store="features")


def store_of(folder: Path, *names: str, finished: bool = True) -> Path:
    """A store of one window, by encoders of these names."""
    entries = [{"name": name, "revision": "ab"} for name in names]
    prepare_store(folder, {"encoders": entries}, np.array(["a", "b"]), 3, 1, resume=True)
    if finished:
        FeatureStore(folder).write(0, 0, np.ones((2, 3), dtype=np.float16))
    return folder


def test_a_complete_store_says_what_its_encoders_are(tmp_path: Path, attempts: list[Any]) -> None:
    """They are not asked for again, though nobody could load them here."""
    whole = store_of(tmp_path / "whole", "uni2-h", "texture")
    assert [one.name for one in find_encoders("auto", whole)] == ["uni2-h", "texture"]
    assert [one.name for one in find_encoders("uni2-h", whole)] == ["uni2-h"]
    assert [one.name for one in find_encoders(["uni2-h", "texture"], str(whole))] == ["uni2-h", "texture"]
    with pytest.raises(KeyError, match="nobody"):
        find_encoders("nobody", whole)


@pytest.mark.parametrize("finished", [None, False])
def test_what_is_to_be_computed_needs_its_encoders(tmp_path: Path, finished: bool | None, attempts: list[Any]) -> None:
    """Before it is begun, and to go on."""
    folder = tmp_path / "store"
    if finished is not None:
        store_of(folder, "uni2-h", finished=finished)
    with pytest.raises(OSError, match="uni2-h"):
        find_encoders("uni2-h", folder)
    assert [one.name for one in find_encoders("texture", folder)] == ["texture"]


def test_what_a_record_says_of_encoders() -> None:
    """Each licence once, in their order, and on what they ran."""
    one, same = (sd.encoders.from_module(nn.Linear(3, 3), name=name, licence="MIT", **PLAIN) for name in "ab")
    other = sd.encoders.from_module(nn.Linear(3, 3), name="c", licence="CC-BY-NC-4.0", **PLAIN)
    found = describe_encoders([one, other, same], {"device": "cpu", "revision": "x+y+z"})
    assert found == {"encoder": "a+c+b", "licence": "MIT + CC-BY-NC-4.0", "device": "cpu", "revision": "x+y+z"}
