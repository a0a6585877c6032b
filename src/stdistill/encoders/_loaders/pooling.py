"""From the tokens of a vision transformer to one vector per crop."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassAndMean(nn.Module):
    """The class token, followed by the mean of the patch tokens.

    Parameters
    ----------
    network
        Gives tokens (b, n, d): the class token, register tokens, patch tokens.
    n_prefix
        Number of tokens before the first patch.
    """

    def __init__(self, network: nn.Module, n_prefix: int) -> None:
        super().__init__()
        self.network = network
        self.n_prefix = n_prefix

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, h, w) into features (b, 2 d)."""
        tokens = self.network(images)
        return torch.cat([tokens[:, 0], tokens[:, self.n_prefix :].mean(1)], dim=-1)


class ClassToken(nn.Module):
    """The class token, which is the first.

    Parameters
    ----------
    network
        Gives tokens (b, n, d).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, h, w) into features (b, d)."""
        tokens: Tensor = self.network(images)
        return tokens[:, 0]


class Tokens(nn.Module):
    """The last hidden state (b, n, d) of a network of transformers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, h, w) into tokens (b, n, d)."""
        tokens: Tensor = self.network(pixel_values=images).last_hidden_state
        return tokens


class PoolerOutput(nn.Module):
    """What a network of transformers pools by itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, h, w) into features (b, d)."""
        features: Tensor = self.network(pixel_values=images).pooler_output
        return features


class ImageTower(nn.Module):
    """The images' side of CONCH, before the projection that aligns it with text."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (b, 3, h, w) into features (b, d)."""
        features: Tensor = self.network.encode_image(images, proj_contrast=False, normalize=False)  # type: ignore[operator]
        return features
