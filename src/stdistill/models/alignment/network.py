"""Both sides of the alignment: H&E tiles and the graphs of their cells, at the scales that are aligned."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from stdistill.models.alignment.arguments import Edges
from stdistill.models.alignment.expression import ExpressionNetwork
from stdistill.models.alignment.tiles import Graphs, TileBatch
from stdistill.models.features import standardize, usable_spread

LARGEST_SCALE = 100.0
"""Of cosines: no temperature falls below .01 (Radford et al. 2021)."""


class HEProjection(nn.Module):
    """Map the features of a scale to the shared space: one hidden layer."""

    mean: Tensor
    std: Tensor

    def __init__(self, n_features: int, *, hidden: int, n_dims: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(n_features, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_dims),
        )

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Take over the statistics of the training tiles."""
        self.mean.copy_(mean)
        self.std.copy_(usable_spread(std))

    def forward(self, features: Tensor) -> Tensor:
        """Return tiles (b, n_dims) of unit length."""
        return functional.normalize(self.layers(standardize(features, self.mean, self.std)), dim=1)


class AlignmentNetwork(nn.Module):
    """Embed tiles by their H&E and by the expression of their cells.

    Parameters
    ----------
    n_he
        Features of each scale that is aligned.
    n_expression
        What a cell expresses.
    width, hidden, n_dims
        Of cells, of the hidden layer of the H&E side, and of the shared space.
    edges, edge_temperature
        See `ExpressionNetwork`.
    dropout
        Share of activations set to 0 in training.
    temperature
        Of the contrast when training begins; it is learned.
    """

    def __init__(
        self,
        n_he: Mapping[str, int],
        n_expression: int,
        *,
        width: int,
        hidden: int,
        n_dims: int,
        edges: Edges,
        edge_temperature: float,
        dropout: float,
        temperature: float,
    ) -> None:
        super().__init__()
        self.he = nn.ModuleDict(
            {scale: HEProjection(n, hidden=hidden, n_dims=n_dims, dropout=dropout) for scale, n in n_he.items()}
        )
        self.expression = ExpressionNetwork(
            n_expression, width=width, n_dims=n_dims, edges=edges, edge_temperature=edge_temperature, dropout=dropout
        )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @property
    def scales(self) -> list[str]:
        """Those that are aligned."""
        return list(self.he)

    def contrast_scale(self) -> Tensor:
        """Return what cosines are multiplied by."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def embed_he(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tiles (b, n_dims) at each scale by their H&E."""
        return {scale: project(images[scale]) for scale, project in self.he.items()}

    def embed_expression(self, graphs: Graphs, n_tiles: int) -> dict[str, Tensor]:
        """Return tiles (n_tiles, n_dims) at each scale by their cells."""
        found = self.expression(graphs, n_tiles)
        return {scale: found[scale] for scale in self.he}

    def forward(self, batch: TileBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return both sides of the tiles of a batch."""
        return self.embed_he(batch.images), self.embed_expression(batch.graphs, len(batch.slide))
