"""Edges between places: how likely each is, and a draw that gradients pass through (Jeong et al. 2025, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

NARROWER = 4
"""Cells are read by so many times fewer numbers than they have: there are hundreds of pairs a cell (our choice)."""


class EdgeWeights(nn.Module):
    """Weigh candidate pairs by a network that reads both ends.

    In training the weight is drawn: a Gumbel softmax over the classes "edge" and "no edge" (Jang et al. 2017). At
    inference it is the probability itself.

    Parameters
    ----------
    width
        Of the cells' vectors.
    temperature
        Of the softmax: the lower, the nearer to 0 or 1 are the weights.
    """

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__()
        hidden = max(1, width // NARROWER)
        self.ends = nn.Linear(width, 2 * hidden)
        self.score = nn.Linear(hidden, 1)
        self.temperature = temperature

    def forward(self, cells: Tensor, pairs: Tensor) -> Tensor:
        """Return the weight (n_pairs,) of each pair (2, n_pairs) of cells (n, width)."""
        own, other = self.ends(cells).chunk(2, dim=1)  # a linear layer of both ends, once a cell and not once a pair
        hidden = functional.silu(own.index_select(0, pairs[0]) + other.index_select(0, pairs[1]))
        logit = self.score(hidden).squeeze(1)
        return draw(logit, self.temperature) if self.training else logit.sigmoid()


def draw(logit: Tensor, temperature: float) -> Tensor:
    """Draw relaxed edges of these log-odds.

    Of two classes the Gumbel softmax is a sigmoid, and the difference of two Gumbel variables is logistic.
    """
    uniform = torch.rand_like(logit).clamp(min=torch.finfo(logit.dtype).tiny, max=1 - torch.finfo(logit.dtype).eps)
    return ((logit + torch.logit(uniform)) / temperature).sigmoid()
