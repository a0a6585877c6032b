"""From cells to a trained teacher of niches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stdistill._support.arrays import Integers
from stdistill._training.arguments import TrainingArguments
from stdistill._training.sampling import spatial_order
from stdistill._training.trainer import fit
from stdistill.models.niche.arguments import Centering
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.fitting import Fitted, fingerprint_niches, new_network, share_capped
from stdistill.models.niche.network import NicheNetwork
from stdistill.models.niche.self_distillation import SelfDistillation, neighborhood_means

CELLS_TO_CLUSTER = 20_000
CELLS_AT_ONCE = 512
N_STARTS = 10
"""Of k-means, the best of which is taken."""


def train_teacher(
    neighborhoods: Neighborhoods,
    libraries: Integers,
    training: npt.NDArray[np.bool_],
    *,
    k: int,
    size: dict[str, Any],
    centering: Centering,
    arguments: TrainingArguments,
) -> Fitted:
    """Train a network to tell niches apart, without labels.

    Parameters
    ----------
    neighborhoods
        Cells of one or several slides.
    libraries
        (n,), number of each cell's slide.
    training
        (n,), cells to train on; they have features.
    k
        Number of niches.
    size
        Arguments of `NicheNetwork`.
    centering
        See `SelfDistillation`.
    arguments
        How to train, complete.
    """
    cells = np.flatnonzero(training)
    cells = cells[spatial_order(neighborhoods.centers[cells], libraries[cells])]
    student = new_network(neighborhoods, cells, k, size, arguments["seed"])
    capped = share_capped(neighborhoods, cells)
    places = neighborhoods.centers[cells]
    objective = SelfDistillation(
        student,
        neighborhoods,
        cluster_means(neighborhoods, cells, k, student, arguments["seed"]),
        centering=centering,
        fitting=cells,
        arguments=arguments,
        fingerprint=fingerprint_niches(neighborhoods, student, size, places, arguments, k, centering),
    )
    history = fit(objective)
    record = {"n_training_cells": len(cells), "n_epochs": len(history), "share_capped": capped}
    return Fitted(objective.finish(), history, record)


def cluster_means(neighborhoods: Neighborhoods, cells: Integers, k: int, network: NicheNetwork, seed: int) -> Tensor:
    """Cluster the neighbourhood means of (a sample of) the cells: (k, n_features), in standardised features."""
    from sklearn.cluster import KMeans

    chosen = np.random.default_rng(seed).permutation(len(cells))[:CELLS_TO_CLUSTER]
    means = []
    for part in np.array_split(cells[np.sort(chosen)], -(-len(chosen) // CELLS_AT_ONCE)):
        batch = neighborhoods.batch(neighborhoods.tokens(part))
        features = network.standardize(batch.features.cpu())
        means.append(neighborhood_means(batch.to("cpu"), features))
    found = KMeans(k, n_init=N_STARTS, random_state=seed).fit(torch.cat(means).numpy())
    return torch.from_numpy(found.cluster_centers_).float()
