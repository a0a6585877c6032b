"""The loss: each tile's two views find each other among those of the other tiles (InfoNCE)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def info_nce(he: Tensor, expression: Tensor, scale: Tensor, excluded: Tensor, first: int = 0) -> Tensor:
    """Mean over both directions of how badly the true partner is told from the other tiles.

    van den Oord et al. 2018, with cosine similarity and in both directions as Radford et al. 2021; Jeong et al. 2025,
    section 5.3.

    Parameters
    ----------
    he, expression
        (n, d), rows of unit length: the two views of all tiles.
    scale
        What cosines are multiplied by: 1 / temperature.
    excluded
        (n, n), the tiles that are no negatives of a tile: those that show some of the same tissue.
    first
        Number of the first tile that is asked for, of those that `excluded` has rows of: one process asks for its own
        tiles among those of all processes.
    """
    asked = slice(first, first + len(excluded))
    target = torch.arange(first, first + len(excluded), device=he.device)
    losses = [
        functional.cross_entropy((scale * query[asked] @ key.T).masked_fill(excluded, -torch.inf), target)
        for query, key in ((he, expression), (expression, he))
    ]
    return torch.stack(losses).mean()


def overlapping(slide: Tensor, centers: Tensor, side_um: float) -> Tensor:
    """Tell which tiles (n, n) of a slide share tissue, a tile with itself not among them."""
    near = (centers[:, None] - centers[None]).abs().amax(dim=2) < side_um * (1 - 1e-6)
    shared = near & (slide[:, None] == slide[None])
    return shared.fill_diagonal_(False)


def alignment(he: Tensor, expression: Tensor) -> Tensor:
    """Mean squared distance of partners (Wang and Isola 2020): 0 where they are the same."""
    return (he - expression).square().sum(dim=1).mean()


def uniformity(views: Tensor) -> Tensor:
    """Logarithm of the mean Gaussian potential of all pairs (Wang and Isola 2020): 0 where all are the same, else less.

    Of one tile alone it is 0.
    """
    if len(views) < 2:
        return views.new_zeros(())
    return torch.pdist(views).square().mul(-2).exp().mean().log()
