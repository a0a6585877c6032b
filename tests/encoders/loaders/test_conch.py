"""CONCH's package is not on a package registry: a stand-in takes its place."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stdistill as sd


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Linear(3, 4)

    def encode_image(self, images: Tensor, normalize: bool = True, proj_contrast: bool = True) -> Tensor:
        assert not normalize
        assert not proj_contrast
        features: Tensor = self.visual(images.mean((2, 3)))
        return features


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(config: str, checkpoint_path: str, *, return_transform: bool) -> nn.Module:
        assert config == "conch_ViT-B-16"
        assert not return_transform
        network = Network()
        network.load_state_dict(torch.load(checkpoint_path, weights_only=True), strict=False)
        return network

    module: Any = ModuleType("conch.open_clip_custom")
    module.create_model_from_pretrained = create
    monkeypatch.setitem(sys.modules, "conch", ModuleType("conch"))
    monkeypatch.setitem(sys.modules, "conch.open_clip_custom", module)


@pytest.mark.usefixtures("package")
def test_features_before_the_projection(tmp_path: Path) -> None:
    network = Network()
    torch.save(network.state_dict(), tmp_path / "conch.bin")
    module = sd.encoders.get("conch", weights=tmp_path / "conch.bin").load()
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(module(images), network.visual(images.mean((2, 3))))
    assert not module.training


@pytest.mark.usefixtures("package")
def test_weights_that_the_package_would_take_silently(tmp_path: Path) -> None:
    torch.save({"visual.weight": torch.zeros(4, 3)}, tmp_path / "conch.bin")
    with pytest.raises(ValueError, match=r"missing \(visual\.bias\)"):
        sd.encoders.get("conch", weights=tmp_path / "conch.bin").load()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "conch", None)
    with pytest.raises(ImportError, match=r"pip install git\+https://github.com/mahmoodlab/CONCH"):
        sd.encoders.get("conch").load()
