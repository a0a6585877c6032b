from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

import stdistill as sd


@pytest.mark.parametrize(
    "name", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext", "mobilenetv3_small_100"]
)
def test_described_as_built(name: str, attempts: list[Any]) -> None:
    encoder = sd.encoders.get(name, weights="random")
    module = encoder.load()
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert encoder.input_px is not None
    with torch.inference_mode():
        assert module(torch.rand(2, 3, encoder.input_px, encoder.input_px)).shape == (2, encoder.dim)
    assert sum(parameter.numel() for parameter in module.parameters()) == encoder.n_params
    assert attempts == []


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "test_vit", "resnet18.tv_in1k", "vit_small_patch14_dinov2"])
def test_transform_is_timms(name: str) -> None:
    """The same steps as timm's own evaluation transform."""
    encoder = sd.encoders.get(name)
    data = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    resize, crop, _, normalize = timm.data.create_transform(**data).transforms
    assert (encoder.resize_px or encoder.input_px) == resize.size
    assert (encoder.input_px, encoder.input_px) == tuple(crop.size)
    assert encoder.interpolation == resize.interpolation.value
    torch.testing.assert_close(torch.tensor(encoder.mean), normalize.mean)
    torch.testing.assert_close(torch.tensor(encoder.std), normalize.std)


def test_card() -> None:
    encoder = sd.encoders.get("vit_small_patch16_224")
    assert encoder.name == "vit_small_patch16_224.augreg_in21k_ft_in1k"  # the default may change with timm
    assert encoder.source == f"timm/{encoder.name}"
    assert (encoder.licence, encoder.commercial, encoder.gated) == ("apache-2.0", None, False)
    assert sd.encoders.get(encoder.name).name == encoder.name


def test_random_weights_are_the_same_every_time() -> None:
    encoder = sd.encoders.get("test_vit", weights="random")
    assert encoder.name == "test_vit-random"
    assert encoder.licence == "none"
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = encoder.load().state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)  # the user's random numbers go on as before
    torch.manual_seed(2)
    for key, value in encoder.load().state_dict().items():
        assert torch.equal(value, first[key]), key


@pytest.fixture
def trained() -> torch.nn.Module:
    torch.manual_seed(7)
    network: torch.nn.Module = timm.create_model("test_vit", num_classes=5).eval()
    return network


@pytest.mark.parametrize("as_folder", [False, True])
def test_local_weights(trained: Any, tmp_path: Path, as_folder: bool, attempts: list[Any]) -> None:
    """A classifier's checkpoint gives what it computes before its classifier."""
    path = tmp_path / "model.safetensors"
    save_file(trained.state_dict(), path)
    encoder = sd.encoders.get("test_vit", weights=tmp_path if as_folder else str(path))
    images = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        expected = trained.forward_head(trained.forward_features(images), pre_logits=True)
        torch.testing.assert_close(encoder.load()(images), expected)
    assert encoder.name == "test_vit"
    assert encoder.licence == "unknown"
    assert str(encoder.revision).startswith("sha256-")
    assert attempts == []


def test_folder_with_a_description(trained: Any, tmp_path: Path, attempts: list[Any]) -> None:
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    card = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0], "input_size": [3, 160, 160], "crop_pct": 1.0}
    card |= {"classifier": "head", "num_classes": 5, "interpolation": "bilinear", "fixed_input_size": True}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": card}))
    encoder = sd.encoders.get(f"local-dir:{tmp_path}")
    assert (encoder.mean, encoder.resize_px, encoder.interpolation) == ((0.1, 0.2, 0.3), None, "bilinear")
    images = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        expected = trained.forward_head(trained.forward_features(images), pre_logits=True)
        torch.testing.assert_close(encoder.load()(images), expected)
    assert encoder.source == str(tmp_path / "model.safetensors")
    assert encoder.revision is not None
    assert attempts == []


def test_hub_repository(trained: Any, tmp_path: Path, hub: Any) -> None:
    save_file(trained.state_dict(), tmp_path / "weights")
    hub.files["model.safetensors"] = (tmp_path / "weights").read_bytes()
    card = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0], "input_size": [3, 160, 160], "classifier": "head"}
    card["fixed_input_size"] = True
    description = {"architecture": "test_vit", "num_classes": 5, "pretrained_cfg": card}
    hub.files["config.json"] = json.dumps(description).encode()
    encoder = sd.encoders.get("hf-hub:someone/some-vit")
    assert (encoder.name, encoder.source) == ("someone-some-vit", "someone/some-vit")
    images = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        expected = trained.forward_head(trained.forward_features(images), pre_logits=True)
        torch.testing.assert_close(encoder.load()(images), expected)


def test_hub_repository_out_of_reach(attempts: list[Any]) -> None:
    with pytest.raises(ConnectionError, match="'hf-hub:someone/some-vit' cannot be had"):
        sd.encoders.get("hf-hub:someone/some-vit")
    assert attempts


def test_pretrained_weights_out_of_reach() -> None:
    encoder = sd.encoders.get("test_vit.r160_in1k")
    with pytest.raises(OSError, match=r"huggingface\.co/timm/test_vit\.r160_in1k"):
        encoder.load()


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "resnet.bin")
    with pytest.raises(ValueError, match=r"does not hold the weights of 'test_vit': .* missing \(cls_token, "):
        sd.encoders.get("test_vit", weights=tmp_path / "resnet.bin").load()


def test_unknown_tag() -> None:
    with pytest.raises(ValueError, match=r"Invalid pretrained tag .* variants of it: .*augreg_in1k"):
        sd.encoders.get("vit_small_patch16_224.nope")


def test_without_pretrained_weights() -> None:
    with pytest.raises(ValueError, match="no pretrained weights for 'vit_giant_patch14_224'"):
        sd.encoders.get("vit_giant_patch14_224")
