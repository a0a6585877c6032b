"""What a niche model would say of a cell if some of the cells around it were not there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stdistill._support.arrays import Float64s, Mask
from stdistill.models.niche.batches import Neighborhoods, TokenBatch, TokenBlock, Tokens
from stdistill.models.niche.network import NicheNetwork

TOKENS_AT_ONCE = 16_384
"""Bounds the memory, whatever a cell's neighbourhood holds."""


class Question:
    """Why one cell is in its niche: how sure the model would be of it if it saw something else.

    A token that is left out is not among those that attention reads, as if there were no cell in its place. The answer
    is the log-odds of the niche: the logarithm of its probability over that of all others, which unlike a logit does
    not change when all logits do. All that is computed for a cell depends on that cell alone, to the bit.

    Parameters
    ----------
    network
        Of at least two niches.
    neighborhoods
        Cells with their features and their graph.
    cell
        Row of the cell.
    temperature
        What logits are divided by.
    device
        Where the network is.
    """

    def __init__(
        self, network: NicheNetwork, neighborhoods: Neighborhoods, cell: int, temperature: float, device: torch.device
    ) -> None:
        self.network = network
        self.neighborhoods = neighborhoods
        self.temperature = temperature
        self.device = device
        self.tokens = neighborhoods.tokens(np.array([cell]))
        logits = self._read(self._batch(np.ones((1, len(self)), dtype=bool)))
        self.niche = int(logits.argmax())
        self.answer = float(self._log_odds(logits))

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens.cells)

    @property
    def at_once(self) -> int:
        """How many answers are computed together."""
        return max(1, TOKENS_AT_ONCE // len(self))

    def if_present(self, presence: Tensor) -> Tensor:
        """Answer (m,) when only those tokens are there where `presence` (m, n_tokens) is 1."""
        present = presence.numpy() > 0
        if present.any():
            return self._log_odds(self._read(self._batch(present)))
        # A batch has a token: read nothing beside all, and forget that.
        return self._log_odds(self._read(self._batch(np.vstack([present, ~present[:1]]))))[:-1]

    def if_like(self, features: Tensor) -> Tensor:
        """Answer (m,) when the tokens have other features (m, n_tokens, n_features), in their places."""
        m, n_tokens = features.shape[:2]
        block = TokenBlock(
            torch.arange(m * n_tokens).view(m, n_tokens),
            torch.from_numpy(self.tokens.offsets).expand(m, -1, -1),
            torch.ones(m, n_tokens, dtype=torch.bool),
            torch.arange(m),
        )
        batch = TokenBatch(features.flatten(0, 1), torch.zeros(m, dtype=torch.int64), (block.to(self.device),))
        return self._log_odds(self._read(batch))

    def without(self, removed: Mask) -> Float64s:
        """Answer (m,) without the tokens where `removed` (m, n_tokens), a bounded number at once."""
        present = torch.from_numpy(~removed)
        answers: Float64s = torch.cat([self.if_present(part) for part in present.split(self.at_once)]).numpy()
        return answers

    def _batch(self, present: Mask) -> TokenBatch:
        centers = np.full(len(present), self.tokens.centers[0])
        center, token = np.nonzero(present)
        seen = Tokens(centers, center, self.tokens.cells[token], self.tokens.offsets[token])
        return self.neighborhoods.batch(seen).to(self.device)

    def _read(self, batch: TokenBatch) -> Tensor:
        logits: Tensor = self.network(batch).cpu().double() / self.temperature
        return logits

    def _log_odds(self, logits: Tensor) -> Tensor:
        """Return the log-odds (m,) of the niche from logits (m, k)."""
        others = torch.arange(logits.shape[1]) != self.niche
        return logits[:, self.niche] - logits[:, others].logsumexp(dim=1)
