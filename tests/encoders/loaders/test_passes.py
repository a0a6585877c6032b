"""Fewer passes over memory give what timm's own network gives."""

from __future__ import annotations

import timm
import torch
from timm.layers import SwiGLUPacked
from torch import nn

from stdistill.encoders._loaders.passes import SwiGLU, fold_scales

SMALL = {"img_size": 28, "depth": 2, "embed_dim": 48, "num_heads": 3, "mlp_ratio": 2.66667 * 2, "num_classes": 0}


def network(mlp_layer: object, **arguments: object) -> nn.Module:
    """A small network of random weights and scales."""
    torch.manual_seed(0)
    built = timm.create_model(
        "vit_giant_patch14_224", pretrained=False, mlp_layer=mlp_layer, act_layer=nn.SiLU, **SMALL, **arguments
    )
    torch.manual_seed(1)
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.3)
    return built.eval()


def test_halves_of_the_weights_give_what_timm_gives() -> None:
    packed, ours = SwiGLUPacked(48, 128), SwiGLU(48, 128, act_layer=nn.SiLU)
    ours.load_state_dict(packed.state_dict())
    tokens = torch.randn(2, 5, 48)
    torch.testing.assert_close(ours(tokens), packed(tokens))


def test_folded_scales_give_what_timm_gives() -> None:
    expected, ours = network(SwiGLUPacked, init_values=1e-5), network(SwiGLU, init_values=1e-5)
    ours.load_state_dict(expected.state_dict())  # the same names and shapes
    fold_scales(ours)
    assert not any("gamma" in name for name, _ in ours.named_parameters())
    images = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(ours(images), expected(images), rtol=1e-4, atol=1e-4)


def test_what_has_no_scale_stays() -> None:
    ours = network(SwiGLU)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    fold_scales(ours)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    fold_scales(nn.Linear(2, 2))
