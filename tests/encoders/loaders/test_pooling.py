from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from stdistill.encoders._loaders.pooling import ClassAndMean, ClassToken, PoolerOutput, Tokens

TOKENS = torch.tensor([[[1.0, 2.0], [90.0, 90.0], [3.0, 5.0], [5.0, 9.0]]])  # class, one register, two patches


class Network(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return TOKENS.expand(len(images), -1, -1)


class TransformersNetwork(nn.Module):
    def forward(self, *, pixel_values: Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=TOKENS.expand(len(pixel_values), -1, -1), pooler_output=pixel_values)


@pytest.mark.parametrize("tokens", [Network(), Tokens(TransformersNetwork())])
def test_by_hand(tokens: nn.Module) -> None:
    images = torch.rand(3, 3, 4, 4)
    assert torch.equal(ClassToken(tokens)(images), torch.tensor([[1.0, 2.0]]).expand(3, 2))
    assert torch.equal(ClassAndMean(tokens, 2)(images), torch.tensor([[1.0, 2.0, 4.0, 7.0]]).expand(3, 4))
    assert torch.equal(ClassAndMean(tokens, 1)(images)[0, 2:], TOKENS[0, 1:].mean(0))


def test_pooler() -> None:
    images = torch.rand(3, 3, 4, 4)
    assert torch.equal(PoolerOutput(TransformersNetwork())(images), images)
