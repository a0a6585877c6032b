"""The network that tells abundances from features: layers of one width, and a ridge regression beside them."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from stdistill.models.composition.arguments import Output
from stdistill.models.features import standardize, usable_spread

RIDGE_SHARE = 1 / 3
"""Of a regression that layers are averaged with (our choice)."""


class CompositionNetwork(nn.Module):
    """Map features to abundances.

    What it learns, and returns, are abundances on the scale of each type in the training; `abundances` takes them back.
    The layers are those of Sun, Zhu and Qiu 2025, section 2.2. While they learn there is no regression.

    Parameters
    ----------
    n_features, n_types
        What goes in and what comes out.
    width, depth
        `depth` linear layers in all, with SiLU between them; the inner ones have `width` outputs. Without layers there
        is the regression alone.
    dropout
        Share of inner activations set to 0 in training.
    output
        ``"linear"``: abundances of any size. ``"softmax"``: shares that sum to 1.
    """

    mean: Tensor
    std: Tensor
    target_mean: Tensor
    target_std: Tensor
    slope: Tensor
    intercept: Tensor

    def __init__(
        self, n_features: int, n_types: int, *, width: int, depth: int, dropout: float, output: Output
    ) -> None:
        super().__init__()
        for name, size in (("mean", n_features), ("target_mean", n_types), ("intercept", n_types)):
            self.register_buffer(name, torch.zeros(size))
        for name, size in (("std", n_features), ("target_std", n_types)):
            self.register_buffer(name, torch.ones(size))
        self.register_buffer("slope", torch.zeros(n_features, n_types))
        layers: list[nn.Module] = []
        sizes = [n_features, *[width] * (depth - 1), n_types][: depth + 1]
        for n_inputs, n_outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(n_inputs, n_outputs), nn.SiLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers[:-2])  # nothing after the last linear one
        self.output = output

    def set_scale(self, mean: Tensor, std: Tensor, target_mean: Tensor, target_std: Tensor) -> None:
        """Take over the statistics of the training rows; a type that is constant there is predicted as that."""
        self.mean.copy_(mean)
        self.std.copy_(usable_spread(std))
        self.target_mean.copy_(target_mean)
        self.target_std.copy_(target_std)

    def set_ridge(self, slope: Tensor, intercept: Tensor) -> None:
        """Take over a regression (n_features, n_types), (n_types,) of targets on features, both on that scale."""
        self.slope.copy_(slope)
        self.intercept.copy_(intercept)

    def average_with(self, slope: Tensor, intercept: Tensor) -> None:
        """Return from now on the mean of what the layers and a regression say, in which this has `RIDGE_SHARE`."""
        self.set_ridge(slope * RIDGE_SHARE, intercept * RIDGE_SHARE)
        with torch.no_grad():
            for part in self.layers[-1].parameters():
                part.mul_(1 - RIDGE_SHARE)

    def forward(self, features: Tensor) -> Tensor:
        """Return what is predicted of features (n, n_features) on the scale of the training, (n, n_types)."""
        read = self._read(features)
        return read if self.output == "linear" else self.scale_targets(read.softmax(dim=1))

    def scale_targets(self, abundances: Tensor) -> Tensor:
        """Bring abundances (n, n_types) to the scale of the training."""
        spread = self.target_std.where(self.target_std > 0, torch.ones_like(self.target_std))
        return (abundances - self.target_mean) / spread

    def abundances(self, features: Tensor) -> Tensor:
        """Return the abundances (n, n_types) of features (n, n_features): 0 or more."""
        read = self._read(features)
        if self.output == "softmax":
            return read.softmax(dim=1)
        return (read * self.target_std + self.target_mean).clamp(min=0)

    def _read(self, features: Tensor) -> Tensor:
        scaled = standardize(features, self.mean, self.std)
        read = scaled @ self.slope + self.intercept
        if len(self.layers):
            read = read + self.layers(scaled)
        if self.output == "softmax":  # a type that was nowhere in the training has no share
            return read.masked_fill((self.target_mean == 0) & (self.target_std == 0), -torch.inf)
        return read
