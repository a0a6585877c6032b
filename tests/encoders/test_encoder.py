from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from torch import nn

import stdistill as sd


@pytest.fixture
def encoder() -> sd.encoders.Encoder:
    return sd.encoders.Encoder(name="own", dim=3, load=nn.Identity, mean=(0.5, 0.5, 0.5), std=(1, 1, 1))


def test_frozen(encoder: sd.encoders.Encoder) -> None:
    with pytest.raises(FrozenInstanceError):
        encoder.name = "other"  # type: ignore[misc]
    assert encoder.std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"name": "a/b"}, ValueError, "name must be a name of letters"),
        ({"name": "_index"}, ValueError, "name must be a name of letters"),
        ({"dim": 0}, ValueError, "dim must be at least 1"),
        ({"dim": 2.5}, TypeError, "dim must be an integer"),
        ({"mean": (0.5, 0.5)}, ValueError, "mean must be three finite numbers"),
        ({"mean": (0.5, 0.5, float("nan"))}, ValueError, "mean must be three finite numbers"),
        ({"std": (0.5, 0, 0.5)}, ValueError, "std must be positive"),
        ({"input_px": -1}, ValueError, "input_px must be at least 1"),
        ({"resize_px": 256}, ValueError, "found None"),
        ({"input_px": 224, "resize_px": 200}, ValueError, "resize_px=200"),
        ({"interpolation": "nearest"}, ValueError, r"one of \['bilinear', 'bicubic'\], found 'nearest'"),
        ({"precision": "int8"}, ValueError, r"one of \['float32', 'bfloat16', 'float16'\]"),
        ({"load": nn.Identity()(3)}, TypeError, "load must be a function"),
    ],
)
def test_bad_cards(encoder: sd.encoders.Encoder, change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        replace(encoder, **change)
