"""Networks of timm in fewer passes over memory, which on a GPU take as long as half of the products."""

from __future__ import annotations

import torch
from timm.layers import GluMlp  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional


class SwiGLU(GluMlp):
    """timm's ``SwiGLUPacked``, with a product for each half of the packed weights.

    The halves of a single product are not contiguous, and what follows is slow on them.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{**kwargs, "act_layer": nn.SiLU, "gate_last": False})

    def forward(self, x: Tensor) -> Tensor:
        """Return fc2(silu(x w₁ + b₁) · (x w₂ + b₂))."""
        halves = zip(self.fc1.weight.chunk(2), self.fc1.bias.chunk(2), strict=True)
        gate, value = (functional.linear(x, weight, bias) for weight, bias in halves)
        mixed: Tensor = self.fc2(self.act(gate) * value)
        return mixed


@torch.no_grad()
def fold_scales(network: nn.Module) -> None:
    """Let the last layer of each branch of a vision transformer give what its ``LayerScale`` made of it."""
    for block in getattr(network, "blocks", ()):
        for name, layer in (("ls1", block.attn.proj), ("ls2", block.mlp.fc2)):
            scale = getattr(block, name)
            if not isinstance(scale, nn.Identity):
                layer.weight.mul_(scale.gamma[:, None])
                layer.bias.mul_(scale.gamma)
                setattr(block, name, nn.Identity())
