"""Mean features of neighbourhoods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from stdistill._support.arrays import Integers
from stdistill._training.state import own_torch_state
from stdistill.models.features import feature_statistics, standardize, usable_spread
from stdistill.models.niche.batches import Neighborhoods, TokenBatch

CELLS_AT_ONCE = 512


class Scale(NamedTuple):
    """What features are brought to before they are averaged."""

    mean: Tensor
    spread: Tensor


@own_torch_state()
def find_scale(neighborhoods: Neighborhoods, cells: Integers) -> Scale:
    """Find mean and spread of the features of the training cells."""
    mean, std = feature_statistics([neighborhoods.features], cells)
    if not (std > 0).any():
        msg = f"All {len(cells)} training cells have the same features: there are no niches to tell apart."
        raise ValueError(msg)
    return Scale(mean, usable_spread(std))


@own_torch_state()
def read_means(
    neighborhoods: Neighborhoods, cells: Integers, scale: Scale | None, look: int = 0
) -> npt.NDArray[np.float32]:
    """Average the features of each cell and its neighbours, standardised or as they are: (len(cells), n_features)."""
    return np.concatenate([means for _, means in means_by_part(neighborhoods, cells, scale, look)])


def means_by_part(
    neighborhoods: Neighborhoods, cells: Integers, scale: Scale | None, look: int = 0
) -> Iterator[tuple[Integers, npt.NDArray[np.float32]]]:
    """Give the cells part by part with their means, so that those of a million cells need not be held.

    Cells that are near in order should be near in space: each part reads the features around its cells once.
    """
    for start in range(0, len(cells), CELLS_AT_ONCE):
        part = cells[start : start + CELLS_AT_ONCE]
        batch = neighborhoods.batch(neighborhoods.tokens(part), look).to("cpu")
        with torch.no_grad():
            features = batch.features.float() if scale is None else standardize(batch.features, *scale)
            yield part, neighborhood_means(batch, features).numpy()


def neighborhood_means(batch: TokenBatch, features: Tensor) -> Tensor:
    """Mean (n_centers, d) over the tokens of each centre of `features` (n_unique, d), in the order of the centres."""
    means = features.new_empty(len(batch.centers), features.shape[1])
    for block in batch.blocks:
        counts = block.mask.sum(dim=1)
        means[block.where] = functional.embedding_bag(
            block.rows[block.mask], features, counts.cumsum(0) - counts, mode="mean"
        )
    return means
