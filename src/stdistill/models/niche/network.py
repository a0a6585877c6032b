"""The niche network: a transformer over the cells of a neighbourhood."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from stdistill.models.features import standardize, usable_spread
from stdistill.models.niche.arguments import Head
from stdistill.models.niche.batches import CELLS_PER_BLOCK_GPU, TokenBatch, TokenBlock, merge_blocks
from stdistill.models.niche.position import FrequencyEncoding

ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""All but cuDNN's, which plans for seconds wherever blocks have another shape than before, as here in every batch."""


class NicheNetwork(nn.Module):
    """Map neighbourhoods of cells to niche logits.

    A token is a cell's projected features plus the encoding of its position relative to the centre; the centre itself
    is a token. A class token reads them, through transformer layers that normalise first (Xiong et al. 2020). Features
    are standardised, clipped and projected once per cell of a batch, not once per token.

    Parameters
    ----------
    n_features
        Dimension of the cells' features.
    k
        Number of niches.
    width, depth, n_heads
        Size of the tokens, number of layers, heads of each layer. `width` is a multiple of `n_heads`.
    n_frequencies
        Frequencies of the position encoding.
    dropout
        Share of activations set to 0 in training, in the tokens and after each part of a layer.
    head
        ``"linear"``, or ``"prototypes"``: cosines to `k` directions, as in DINO.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        n_features: int,
        k: int,
        *,
        width: int,
        depth: int,
        n_heads: int,
        n_frequencies: int,
        dropout: float,
        head: Head,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))
        self.project = nn.Linear(n_features, width)
        self.position = FrequencyEncoding(width, n_frequencies)
        self.class_token = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.class_token, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(width, n_heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, k) if head == "linear" else PrototypeHead(width, k)

    def set_standardization(self, mean: Tensor, std: Tensor) -> None:
        """Take over the statistics of the training cells."""
        self.mean.copy_(mean)
        self.std.copy_(usable_spread(std))

    def standardize(self, features: Tensor) -> Tensor:
        """Bring features (n, n_features) to the mean and spread of the training cells, in float32; clip outliers."""
        return standardize(features, self.mean, self.std)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Niche logits (n_centers, k), in the order of ``batch.centers``."""
        logits: Tensor = self.head(self.embed(batch))
        return logits

    def embed(self, batch: TokenBatch) -> Tensor:
        """Return what the class token has read: (n_centers, width), in the order of ``batch.centers``."""
        cells = self.project(self.standardize(batch.features))
        # Block by block tokens stay in a CPU's cache; other devices take fewer and larger steps.
        is_cpu = cells.device.type == "cpu"
        blocks = batch.blocks if is_cpu else merge_blocks(batch.blocks, CELLS_PER_BLOCK_GPU)
        groups = [[block] for block in blocks] if is_cpu else [blocks]
        with sdpa_kernel(ATTENTION):
            read = torch.cat([self._read(cells, group) for group in groups])
        where = torch.cat([block.where for block in blocks])
        return read[where.argsort()]

    def _read(self, cells: Tensor, blocks: Sequence[TokenBlock]) -> Tensor:
        """Read the centres of some blocks, whose tokens follow each other but for attention."""
        # As a look-up table: its gradient is a fast, deterministic sum, unlike that of indexing.
        tokens = functional.embedding(torch.cat([block.rows.flatten() for block in blocks]), cells)
        tokens = self.dropout(tokens + self.position(torch.cat([block.offsets.flatten(0, 1) for block in blocks])))
        parts = _sequences(tokens, [(len(block.mask), block.mask.shape[1]) for block in blocks])
        sequences = [torch.cat([self.class_token.expand(len(part), 1, -1), part], dim=1) for part in parts]
        tokens = torch.cat([sequence.flatten(0, 1) for sequence in sequences])
        attended = [functional.pad(block.mask, (1, 0), value=True) for block in blocks]
        for layer in self.layers[:-1]:
            tokens = layer(tokens, attended)
        # Nobody reads the other tokens of the last layer.
        read: Tensor = self.norm(self.layers[-1](tokens, attended, only_first=True))
        return read


class PrototypeHead(nn.Module):
    """Cosines between a bottleneck and `k` prototypes: the head of DINO (Caron et al. 2021), scaled down.

    The prototypes are the niches. Hidden layers of twice and a bottleneck of half the width are our choice. When
    training is complete, centre and temperature of the teacher are set, and the outputs are its centred logits.
    """

    center: Tensor
    temperature: Tensor

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width // 2),
        )
        self.prototypes = nn.Parameter(torch.randn(k, width // 2))
        self.register_buffer("center", torch.zeros(k))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, read: Tensor) -> Tensor:
        """Cosines (n, k) of what was read (n, width), less the centre and in units of the temperature."""
        bottleneck = functional.normalize(self.mlp(read), dim=-1)
        cosines = functional.linear(bottleneck, functional.normalize(self.prototypes, dim=-1))
        return (cosines - self.center) / self.temperature


class _Layer(nn.Module):
    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, attended: Sequence[Tensor], *, only_first: bool = False) -> Tensor:
        """Update tokens from all that are attended.

        Parameters
        ----------
        tokens
            (n, width): the sequences of all blocks, one after the other.
        attended
            (m, t) of each block of m sequences of t tokens, true where a token may be read.
        only_first
            Update and return only the first token of each sequence.
        """
        shapes = [(len(mask), mask.shape[1]) for mask in attended]
        normed = self.norm_attention(tokens)
        keys_values = _sequences(self.key_value(normed), shapes)
        if only_first:
            tokens, normed = (torch.cat([one[:, 0] for one in _sequences(x, shapes)]) for x in (tokens, normed))
            shapes = [(m, 1) for m, _ in shapes]
        queries = _sequences(self.query(normed), shapes)
        mixed = torch.cat([self._attend(*parts) for parts in zip(queries, keys_values, attended, strict=True)])
        tokens = tokens + self.dropout(self.out(mixed))
        updated: Tensor = tokens + self.dropout(self.mlp(self.norm_mlp(tokens)))
        return updated

    def _attend(self, query: Tensor, key_value: Tensor, attended: Tensor) -> Tensor:
        """Mix what the queries of a block (m, t, width) read in their sequences: (m · t, width)."""
        query, key, value = (
            part.view(*part.shape[:2], self.n_heads, -1).transpose(1, 2)
            for part in (query, *key_value.chunk(2, dim=-1))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=attended[:, None, None, :])
        return mixed.transpose(1, 2).flatten(2).flatten(0, 1)


def _sequences(tokens: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Cut tokens (n, d) into blocks of sequences (m, t, d)."""
    parts = torch.split(tokens, [m * t for m, t in shapes])
    return [part.view(m, t, -1) for part, (m, t) in zip(parts, shapes, strict=True)]
