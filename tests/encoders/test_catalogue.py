"""The encoders of the catalogue, with random weights or none: facts that their authors published."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import stdistill as sd
from stdistill.encoders._catalogue import CATALOGUE, RUNS_CODE
from stdistill.encoders._loaders import timm as timm_loader
from stdistill.encoders._loaders.timm import build_network

ALL = [
    "texture",
    "uni2-h",
    "uni",
    "h-optimus-0",
    "h-optimus-1",
    "h0-mini",
    "virchow2",
    "prov-gigapath",
    "phikon-v2",
    "midnight",
    "hibou-l",
    "hibou-b",
    "conch",
]


def build_on_meta(name: str) -> nn.Module:
    """The network of an encoder of timm, without memory for its weights."""
    load: Any = CATALOGUE[name].load
    with torch.device("meta"):
        return build_network(load.args[1], load.keywords["arguments"], swiglu=load.keywords["swiglu"]).eval()


def test_all_are_there() -> None:
    assert list(CATALOGUE) == ALL


@pytest.mark.parametrize(
    ("name", "tokens", "registers", "output", "million_parameters"),
    [
        ("uni2-h", 1 + 8 + 256, 8, (1536,), 681.4),
        ("uni", 1 + 196, 0, (1024,), 303.4),
        ("h-optimus-0", 1 + 4 + 256, 4, (1536,), 1134.8),
        ("h-optimus-1", 1 + 4 + 256, 4, (1536,), 1134.8),
        ("h0-mini", 1 + 4 + 256, 4, (261, 768), 85.7),
        ("virchow2", 1 + 4 + 256, 4, (261, 1280), 631.2),
        ("prov-gigapath", 1 + 196, 0, (1536,), 1135.0),
    ],
)
def test_architectures(
    name: str, tokens: int, registers: int, output: tuple[int, ...], million_parameters: float
) -> None:
    network: Any = build_on_meta(name)
    images = torch.empty(2, 3, 224, 224, device="meta")
    assert network.forward_features(images).shape[1] == tokens
    assert network.num_reg_tokens == registers
    assert network(images).shape == (2, *output)
    n_params = sum(parameter.numel() for parameter in network.parameters())
    assert n_params == CATALOGUE[name].n_params
    assert round(n_params / 1e6, 1) == million_parameters
    pooled = output[-1] * (2 if len(output) == 2 else 1)
    assert CATALOGUE[name].dim == pooled


def test_uni2_h_layers() -> None:
    network: Any = build_on_meta("uni2-h")
    assert len(network.blocks) == 24
    assert network.blocks[0].attn.num_heads == 24
    assert network.patch_embed.patch_size == (14, 14)
    assert network.pos_embed.shape == (1, 256, 1536)  # none for the class token and the registers
    assert network.blocks[0].mlp.fc1.weight.shape == (8192, 1536)
    assert network.blocks[0].mlp.fc2.weight.shape == (1536, 4096)  # gated: half of it
    assert isinstance(network.blocks[0].mlp.act, nn.SiLU)
    assert network.global_pool == "token"


def test_virchow2_pools_what_its_card_says() -> None:
    arguments = {**_arguments("virchow2"), "img_size": 28, "depth": 1, "embed_dim": 32, "num_heads": 2}
    load = partial(
        timm_loader.load, "stand-in", "vit_huge_patch14_224", arguments=arguments, source="random", swiglu=True
    )
    images = torch.rand(2, 3, 28, 28)
    tokens = load()(images)
    assert tokens.shape == (2, 1 + 4 + 4, 32)
    expected = torch.cat([tokens[:, 0], (tokens[:, 5] + tokens[:, 6] + tokens[:, 7] + tokens[:, 8]) / 4], dim=1)
    torch.testing.assert_close(load(class_and_mean=True)(images), expected)


def test_uni2_h_gives_its_normalised_class_token() -> None:
    arguments = {**_arguments("uni2-h"), "img_size": 28, "depth": 1, "embed_dim": 48, "num_heads": 3}
    network: Any = timm_loader.load("x", "vit_giant_patch14_224", arguments=arguments, source="random", swiglu=True)
    images = torch.rand(2, 3, 28, 28)
    assert torch.equal(network(images), network.forward_features(images)[:, 0])


@pytest.mark.parametrize("name", [name for name in ALL if name not in RUNS_CODE])
def test_cards(name: str) -> None:
    encoder = sd.encoders.get(name)
    pickle.dumps(encoder)  # processes for several devices get it so
    assert encoder.source is None or encoder.source.count("/") == 1


def test_terms() -> None:
    table = sd.encoders.list()
    free = ["texture", "h-optimus-0", "midnight", "hibou-l", "hibou-b"]
    assert table.index[table["commercial"]].tolist() == free
    assert table.loc[free, "licence"].tolist() == ["BSD-3-Clause", "Apache-2.0", "MIT", "Apache-2.0", "Apache-2.0"]
    assert table.index[table["gated"].fillna(False)].tolist() == [
        "uni2-h",
        "uni",
        "h-optimus-1",
        "h0-mini",
        "virchow2",
        "prov-gigapath",
        "conch",
    ]


def test_normalisation_and_resizing() -> None:
    """Against the transforms in the authors' READMEs, written out once more."""
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    optimus = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
    expected = {
        "uni2-h": (*imagenet, 224, None, "bilinear", "bfloat16"),
        "uni": (*imagenet, 224, None, "bilinear", "float16"),
        "h-optimus-0": (*optimus, 224, None, "bicubic", "float16"),
        "h-optimus-1": (*optimus, 224, None, "bicubic", "float16"),
        "h0-mini": (*optimus, 224, None, "bicubic", "float16"),
        "virchow2": (*imagenet, 224, None, "bicubic", "float16"),
        "prov-gigapath": (*imagenet, 224, 256, "bicubic", "float16"),
        "phikon-v2": (*imagenet, 224, None, "bilinear", "float32"),
        "midnight": (*half, 224, None, "bilinear", "float16"),
        "texture": ((0, 0, 0), (1, 1, 1), None, None, "bilinear", "float32"),
    }
    for name, card in expected.items():
        encoder = sd.encoders.get(name)
        found = (encoder.mean, encoder.std, encoder.input_px, encoder.resize_px, encoder.interpolation)
        assert (*found, encoder.precision) == card, name


def test_texture() -> None:
    encoder = sd.encoders.get("texture")
    module = encoder.load()
    assert not module.training
    assert module(torch.rand(2, 3, 40, 40)).shape == (2, encoder.dim)
    assert sum(parameter.numel() for parameter in module.parameters()) == encoder.n_params == 0


def _arguments(name: str) -> dict[str, Any]:
    load: Any = CATALOGUE[name].load
    arguments: dict[str, Any] = load.keywords["arguments"]
    return arguments
