"""From the tokens of a vision transformer to one vector per crop."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """A network, and a way to make one vector of what it gives.

    Parameters
    ----------
    network
        The network; each way says what it gives.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


class ClassAndMean(Pooling):
    """The class token, followed by the mean of the patch tokens.

    Parameters
    ----------
    network
        Gives tokens (b, n, d): the class token, register tokens, patch tokens.
    n_prefix
        Number of tokens before the first patch.
    """

    def __init__(self, network: nn.Module, n_prefix: int) -> None:
        super().__init__(network)
        self.n_prefix = n_prefix

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, h, w) into features (b, 2 d)."""
        tokens = self.network(images)
        return torch.cat([tokens[:, 0], tokens[:, self.n_prefix :].mean(1)], dim=-1)


class ClassToken(Pooling):
    """The class token, the first of the tokens (b, n, d) of a network."""

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, h, w) into features (b, d)."""
        tokens: Tensor = self.network(images)
        return tokens[:, 0]


class Tokens(Pooling):
    """The last hidden state (b, n, d) of a network of transformers."""

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, h, w) into tokens (b, n, d)."""
        tokens: Tensor = self.network(pixel_values=images).last_hidden_state
        return tokens


class PoolerOutput(Pooling):
    """What a network of transformers pools by itself."""

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, h, w) into features (b, d)."""
        features: Tensor = self.network(pixel_values=images).pooler_output
        return features


class ImageTower(Pooling):
    """The images' side of CONCH, before the projection that aligns it with text."""

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, h, w) into features (b, d)."""
        features: Tensor = self.network.encode_image(images, proj_contrast=False, normalize=False)  # type: ignore[operator]
        return features
