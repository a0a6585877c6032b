from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from functools import partial
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
    torch.manual_seed(0)
    one, other = nn.Linear(3, 4), nn.Linear(3, 4)
    same = nn.Linear(3, 4)
    same.load_state_dict(one.state_dict())
    assert revision(one) == revision(same) != revision(other)
    assert revision(one) != revision(nn.Linear(3, 4).bfloat16())
    assert revision(nn.Identity()) != revision(nn.Flatten())
    assert revision(nn.BatchNorm2d(3)) is not None  # with a scalar that counts batches


def test_a_module_that_goes_on_learning_is_another() -> None:
    """The revision stands for the weights of then, and features would be of those of now."""
    module = nn.Linear(3, 4)
    encoder = sd.encoders.from_module(module, **PLAIN)
    encoder.load()
    with torch.no_grad():
        module.weight += 1e-3
    with pytest.raises(ValueError, match=r"The Linear was changed since sd\.encoders\.from_module"):
        encoder.load()
    assert revision(module) != encoder.revision


def test_bad_input() -> None:
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, found function"):
        sd.encoders.from_module(lambda x: x, **PLAIN)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="found type"):
        sd.encoders.from_module(nn.Identity, **PLAIN)  # type: ignore[arg-type]


def revision(module: nn.Module) -> str:
    return str(sd.encoders.from_module(module, **PLAIN).revision)


class Power(nn.Module):
    """Has settings that no weights and no line of text tell."""

    def __init__(self, power: float, function: Any = torch.relu, sizes: Any = (1, 2)) -> None:
        super().__init__()
        self.power = power
        self.function = function
        self.sizes = sizes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x).mean((2, 3)) ** self.power


class Scaled(nn.Module):
    """Has a buffer that is not saved."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale), persistent=False)


def test_revisions_tell_structures_apart() -> None:
    """Without weights, or with the same ones, in another network."""
    networks = [
        nn.Sequential(nn.AvgPool2d(2), nn.Flatten()),
        nn.Sequential(nn.MaxPool2d(2), nn.Flatten()),
        nn.Sequential(nn.MaxPool2d(3), nn.Flatten()),
        nn.Sequential(nn.Flatten(), nn.MaxPool2d(3)),
        Power(1.0),
        Power(2.0),
        Power(2.0, torch.tanh),
        Power(2.0, partial(torch.clamp, min=0)),
        Power(2.0, partial(torch.clamp, min=1)),
        Power(2.0, sizes=[1, 3]),
        Power(2.0, sizes={"a": 1}),
        nn.Sequential(Power(1.0)),
        Scaled(1.0),
        Scaled(2.0),
    ]
    assert len({revision(network) for network in networks}) == len(networks)


def test_revisions_repeat() -> None:
    """Whatever the mode, the object and the process."""
    first, second = (nn.Sequential(nn.AvgPool2d(2), Power(2.0, nn.GELU()), nn.Dropout(0.5)) for _ in range(2))
    assert revision(first) == revision(second.eval()) == revision(copy.deepcopy(first))
    code = """
import torch, stdistill as sd
from torch import nn
module = nn.Sequential(nn.AvgPool2d(2), nn.Flatten())
print(sd.encoders.from_module(module, mean=(0, 0, 0), std=(1, 1, 1)).revision)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == revision(nn.Sequential(nn.AvgPool2d(2), nn.Flatten()))


def test_the_weights_are_told_as_before() -> None:
    """Models and features of an earlier version know this part of the revision."""
    weights, structure = revision(nn.Sequential(nn.AvgPool2d(2), nn.Flatten())).split(".")
    assert weights == "sha256-332ddf8b25deb00c"
    assert len(structure) == 8
