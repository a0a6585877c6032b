"""The last blocks of encoders: which learn, and an encoder with others in their place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

import stdistill as sd
from stdistill.encoders import Encoder
from stdistill.encoders._blocks import unfreeze_last, with_blocks
from stdistill.encoders._loaders.pooling import ClassAndMean


def vit(**changes: object) -> nn.Module:
    torch.manual_seed(0)
    size = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 0}
    return timm.models.VisionTransformer(**(size | changes))


def encoder_of(network: nn.Module) -> Encoder:
    return sd.encoders.from_module(network, mean=(0, 0, 0), std=(1, 1, 1), input_px=16, name="tiny")


def learning(module: nn.Module) -> set[str]:
    return {name for name, each in module.named_parameters() if each.requires_grad}


@pytest.mark.parametrize(
    ("network", "norm"),
    [
        (vit(), "norm."),
        (vit(global_pool="avg"), "fc_norm."),
        (ClassAndMean(vit(global_pool=""), 1), "network.norm."),
        (nn.Sequential(vit(), nn.Linear(16, 4)), "0.norm."),
    ],
)
def test_the_last_blocks_learn(network: nn.Module, norm: str) -> None:
    encoder = encoder_of(network)
    module = encoder.load()
    unfreeze_last(encoder, module, 2)
    prefix = norm.rpartition("norm.")[0].removesuffix("fc_")
    blocks = {
        name for name, _ in module.named_parameters() if name.startswith((f"{prefix}blocks.1.", f"{prefix}blocks.2."))
    }
    assert learning(module) == blocks | {f"{norm}weight", f"{norm}bias"}


def test_no_gradients_before_them() -> None:
    encoder = encoder_of(vit())
    module = encoder.load()
    unfreeze_last(encoder, module, 1)
    seen: list[bool] = []
    for block in module.blocks:
        block.register_forward_hook(lambda _, taken, given: seen.append((taken[0].requires_grad, given.requires_grad)))
    module(torch.rand(2, 3, 16, 16)).sum().backward()
    assert seen == [(False, False), (False, False), (False, True)]
    assert {name for name, each in module.named_parameters() if each.grad is not None} == learning(module)


def test_encoders_that_have_none() -> None:
    encoder = encoder_of(nn.Flatten())
    with pytest.raises(ValueError, match=r"'tiny' holds no vision transformers.*uni2-h, uni, .*from_module"):
        unfreeze_last(encoder, encoder.load(), 1)
    two = encoder_of(nn.Sequential(vit(), vit()))
    with pytest.raises(ValueError, match="holds 2 vision transformers"):
        unfreeze_last(two, two.load(), 1)
    deep = encoder_of(vit())
    with pytest.raises(ValueError, match="'tiny' has 3 blocks: 4 of them cannot learn"):
        unfreeze_last(deep, deep.load(), 4)


def test_other_blocks_in_their_place() -> None:
    encoder = encoder_of(vit())
    module = encoder.load()
    unfreeze_last(encoder, module, 1)
    with torch.no_grad():
        for each in module.parameters():
            each.add_(0.1 if each.requires_grad else 0.0)
    tensors = {name: each.detach() for name, each in module.named_parameters() if each.requires_grad}
    tuned = with_blocks(encoder, tensors)
    assert (tuned.name, tuned.input_px, tuned.licence) == ("tiny-finetuned", 16, encoder.licence)
    crops = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(tuned.load()(crops), module(crops))
        assert not torch.equal(encoder.load()(crops), module(crops))


def test_revisions_tell_them_apart() -> None:
    encoder = encoder_of(vit())
    bias = {"norm.bias": torch.ones(16)}
    revisions = {
        encoder.revision,
        with_blocks(encoder, bias).revision,
        with_blocks(encoder, {"norm.bias": torch.zeros(16)}).revision,
        with_blocks(encoder, {"norm.weight": torch.ones(16)}).revision,
        with_blocks(replace(encoder, revision="another"), bias).revision,
    }
    assert len(revisions) == 5
    assert with_blocks(encoder, {"norm.bias": torch.ones(16)}).revision in revisions


def test_blocks_of_another_encoder() -> None:
    with pytest.raises(ValueError, match=r"has no blocks\.7\.weight: the tuned blocks are of another encoder"):
        with_blocks(encoder_of(vit()), {"blocks.7.weight": torch.ones(1)}).load()
