from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn

import stdistill as sd

PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def test_module_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 4).half())
    encoder = sd.encoders.from_module(module, **PLAIN, input_px=2)
    loaded = encoder.load()
    assert not loaded.training
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert loaded(torch.rand(5, 3, 2, 2)).shape == (5, 4)
    assert module.training
    assert module[2].weight.dtype == torch.float16
    assert module[2].weight.requires_grad


def test_card() -> None:
    encoder = sd.encoders.from_module(
        nn.Linear(3, 4), mean=[0.5] * 3, std=[0.25] * 3, input_px=96, resize_px=100, interpolation="bicubic", dim=4
    )
    assert (encoder.name, encoder.dim, encoder.n_params) == ("Linear", 4, 16)
    assert (encoder.mean, encoder.input_px, encoder.resize_px) == ((0.5, 0.5, 0.5), 96, 100)
    assert (encoder.source, encoder.licence, encoder.commercial) == (None, "unknown", None)
    assert pickle.loads(pickle.dumps(encoder)).revision == encoder.revision


def test_revisions_tell_weights_apart() -> None:
    def revision(module: nn.Module) -> str | None:
        return sd.encoders.from_module(module, **PLAIN).revision

    torch.manual_seed(0)
    one, other = nn.Linear(3, 4), nn.Linear(3, 4)
    same = nn.Linear(3, 4)
    same.load_state_dict(one.state_dict())
    assert revision(one) == revision(same) != revision(other)
    assert revision(one) != revision(nn.Linear(3, 4).bfloat16())
    assert revision(nn.Identity()) != revision(nn.Flatten())
    assert revision(nn.BatchNorm2d(3)) is not None  # with a scalar that counts batches


def test_bad_input() -> None:
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, found function"):
        sd.encoders.from_module(lambda x: x, **PLAIN)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="found type"):
        sd.encoders.from_module(nn.Identity, **PLAIN)  # type: ignore[arg-type]
