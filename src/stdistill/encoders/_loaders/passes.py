"""Networks of timm in fewer passes over memory, on which a GPU spends much of its time beside the products."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import GluMlp  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional


class SwiGLU(GluMlp):
    """timm's ``SwiGLUPacked``, with a product for each half of the packed weights; to be built with ``nn.SiLU``.

    The halves of a single product are not contiguous, and what follows is slow on them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return fc2(silu(x w₁ + b₁) · (x w₂ + b₂))."""
        packed: Any = self.fc1
        halves = zip(packed.weight.chunk(2), packed.bias.chunk(2), strict=True)
        gate, value = (functional.linear(x, weight, bias) for weight, bias in halves)
        mixed: Tensor = self.fc2(self.act(gate) * value)
        return mixed


@torch.no_grad()
def fold_scales(network: nn.Module) -> None:
    """Let the last layer of each branch of a vision transformer give what its ``LayerScale`` made of it."""
    blocks: Any = getattr(network, "blocks", ())
    for block in blocks:
        for name, layer in (("ls1", block.attn.proj), ("ls2", block.mlp.fc2)):
            scale = getattr(block, name)
            if not isinstance(scale, nn.Identity):
                layer.weight.mul_(scale.gamma[:, None])
                layer.bias.mul_(scale.gamma)
                setattr(block, name, nn.Identity())
