"""The expression side: a graph of the cells of a tile that grows from small places to the whole tile."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stdistill.models.alignment.arguments import Edges
from stdistill.models.alignment.edges import EdgeWeights
from stdistill.models.alignment.tiles import Graphs
from stdistill.models.features import standardize, usable_spread


class SageBlock(nn.Module):
    """Update cells by the weighted mean of those that they hear from (Hamilton et al. 2017)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.update = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, cells: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
        """Return cells (n, width), by edges (2, n_edges) of weights (n_edges,); without any, a mean is 0."""
        normed = self.norm(cells)
        heard = weights[:, None] * normed.index_select(0, edges[1])
        total: Tensor = torch.zeros_like(normed).index_add_(0, edges[0], heard)
        sums = weights.new_zeros(len(cells)).index_add_(0, edges[0], weights)
        mean = total / sums.clamp(min=torch.finfo(sums.dtype).tiny)[:, None]
        update: Tensor = self.update(torch.cat([normed, mean], dim=1))
        kept: Tensor = self.dropout(functional.silu(update))
        return cells + kept


class AttentionPooling(nn.Module):
    """Average the cells of each tile by weights that they have themselves (Li et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 1, bias=False)  # only differences count
        self.value = nn.Linear(width, width)

    def forward(self, cells: Tensor, tile: Tensor, n_tiles: int) -> Tensor:
        """Return tiles (n_tiles, width) of cells (n, width); 0 for a tile without any."""
        normed = self.norm(cells)
        gate = self.gate(normed).squeeze(1)
        # Only differences within a tile count: the largest is taken away, so that no exponential is infinite.
        largest = gate.new_zeros(n_tiles).scatter_reduce(0, tile, gate.detach(), "amax", include_self=False)
        weight = (gate - largest.index_select(0, tile)).exp()
        sums = weight.new_zeros(n_tiles).index_add_(0, tile, weight)
        values = weight[:, None] * self.value(normed)
        total: Tensor = values.new_zeros(n_tiles, values.shape[1]).index_add_(0, tile, values)
        mean: Tensor = total / sums.clamp(min=torch.finfo(sums.dtype).tiny)[:, None]
        return mean


class ExpressionNetwork(nn.Module):
    """Describe cells and tiles at three scales by what the cells express and who is near whom.

    Three blocks: the first hears from near cells of the same micro place; before the second, edges are added between
    micro places of a meso place, and before the third between meso places of the tile. Edges are only ever added.
    Jeong et al. 2025, section 5.2; that blocks add to what they read, and are normed, is our choice. So is that a tile
    knows how many cells it has: pooling, a mean, forgets it, and the H&E shows it.

    Parameters
    ----------
    n_features
        What a cell expresses.
    width
        Of cells and tiles.
    n_dims
        Of the space that is shared with the H&E.
    edges
        Which are added: ``"stochastic"``, weighed by what the ends are; ``"all"`` candidates; ``"none"``.
    edge_temperature
        Of the draws.
    dropout
        Share of an update that is set to 0 in training.
    """

    mean: Tensor
    std: Tensor
    mean_size: Tensor
    std_size: Tensor

    def __init__(
        self, n_features: int, *, width: int, n_dims: int, edges: Edges, edge_temperature: float, dropout: float
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))
        self.register_buffer("mean_size", torch.zeros(1))
        self.register_buffer("std_size", torch.ones(1))
        self.edges = edges
        self.embed = nn.Linear(n_features, width)
        self.micro, self.meso, self.macro = (SageBlock(width, dropout) for _ in range(3))
        if edges == "stochastic":
            self.weigh_meso, self.weigh_macro = (EdgeWeights(width, edge_temperature) for _ in range(2))
        self.pool = nn.ModuleDict({scale: AttentionPooling(width) for scale in ("micro", "meso", "macro")})
        self.project = nn.ModuleDict({scale: nn.Linear(width + 1, n_dims) for scale in self.pool})

    def set_scale(self, mean: Tensor, std: Tensor, n_cells: Tensor) -> None:
        """Take over the statistics of the training cells, and of the numbers of them in the training tiles."""
        self.mean.copy_(mean)
        self.std.copy_(usable_spread(std))
        std_size, mean_size = torch.std_mean(n_cells.log(), correction=0)
        self.mean_size.fill_(mean_size)
        self.std_size.fill_(std_size if std_size > 0 else 1.0)

    def cells(self, graphs: Graphs) -> dict[str, Tensor]:
        """Return the cells (n, width) at each scale."""
        vectors = self.embed(standardize(graphs.cells, self.mean, self.std))
        edges, weights = graphs.micro, vectors.new_ones(graphs.micro.shape[1])
        scales = {"micro": self.micro(vectors, edges, weights)}
        for scale, before, candidates in (("meso", "micro", graphs.meso), ("macro", "meso", graphs.macro)):
            if self.edges != "none":
                edges = torch.cat([edges, candidates], dim=1)
                weights = torch.cat([weights, self._weigh(scale, scales[before], candidates)])
            scales[scale] = getattr(self, scale)(scales[before], edges, weights)
        return scales

    def forward(self, graphs: Graphs, n_tiles: int) -> dict[str, Tensor]:
        """Return the tiles (n_tiles, n_dims) at each scale, of unit length."""
        size = self._size(graphs.n_cells)
        return {
            scale: functional.normalize(self.project[scale](torch.cat([pooled, size.to(pooled)], dim=1)), dim=1)
            for scale, cells in self.cells(graphs).items()
            for pooled in [self.pool[scale](cells, graphs.tile, n_tiles)]
        }

    def _size(self, n_cells: Tensor) -> Tensor:
        """Return how many cells tiles have (n_tiles, 1), beside those of the training."""
        return standardize(n_cells.clamp(min=1).log()[:, None], self.mean_size, self.std_size)

    def _weigh(self, scale: str, cells: Tensor, candidates: Tensor) -> Tensor:
        if self.edges == "all":
            return cells.new_ones(candidates.shape[1])
        weigh = self.weigh_meso if scale == "meso" else self.weigh_macro
        weights: Tensor = weigh(cells, candidates)
        return weights
