"""From cells to a trained teacher of niches."""

from __future__ import annotations

import logging
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from stdistill.models._batches import Integers, Neighborhoods, feature_statistics
from stdistill.models._network import NicheNetwork
from stdistill.models._sampling import spatial_order
from stdistill.models._self_distillation import Centering, SelfDistillation, neighborhood_means
from stdistill.models._training import TrainerOptions, fit, seeded

logger = logging.getLogger("stdistill")

CELLS_TO_CLUSTER = 20_000
CELLS_AT_ONCE = 512
N_STARTS = 10
"""Of k-means, the best of which is taken."""


class Teacher(NamedTuple):
    """A trained teacher and how it came about."""

    network: NicheNetwork
    history: pd.DataFrame
    training: dict[str, Any]
    """Numbers of cells and epochs."""


def train_teacher(
    neighborhoods: Neighborhoods,
    libraries: Integers,
    training: npt.NDArray[np.bool_],
    *,
    k: int,
    network: dict[str, Any],
    centering: Centering,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    n_workers: int,
    options: TrainerOptions,
) -> Teacher:
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
    network
        Arguments of `NicheNetwork`.
    centering, batch_size, learning_rate, weight_decay, seed, n_workers
        See `SelfDistillation`.
    options
        Of the Trainer.
    """
    cells = np.flatnonzero(training)
    cells = cells[spatial_order(neighborhoods.centers[cells], libraries[cells])]
    mean, std = feature_statistics(neighborhoods.features, cells)
    if not (std > 0).any():
        msg = f"All {len(cells)} training cells have the same features: there are no niches to tell apart."
        raise ValueError(msg)
    with seeded(seed):
        student = NicheNetwork(len(mean), k, **network)
    student.set_standardization(mean, std)
    capped = neighborhoods.share_capped(cells)
    if capped:
        logger.info(
            "max_tokens=%d cuts the neighbourhoods of %.1f %% of the training cells.",
            neighborhoods.max_tokens,
            100 * capped,
        )
    fingerprint = {
        "n_training_cells": len(cells),
        "data": zlib.crc32(neighborhoods.centers[cells].tobytes(), zlib.crc32(mean.numpy().tobytes())),
        "network": str(sorted(network.items())),
        "training": str((k, centering, batch_size, learning_rate, weight_decay, seed)),
        "length": str((options.max_epochs, options.max_steps)),
    }
    module = SelfDistillation(
        student,
        neighborhoods,
        cluster_means(neighborhoods, cells, k, student, seed),
        centering=centering,
        training=cells,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        n_workers=n_workers,
        fingerprint=fingerprint,
    )
    history = fit(module, options)
    record = {"n_training_cells": len(cells), "n_epochs": len(history), "share_capped": capped}
    return Teacher(module.finish(), history, record)


def cluster_means(neighborhoods: Neighborhoods, cells: Integers, k: int, network: NicheNetwork, seed: int) -> Tensor:
    """Cluster the neighbourhood means of (a sample of) the cells: (k, n_features), in standardised features."""
    from sklearn.cluster import KMeans

    chosen = np.random.default_rng(seed).permutation(len(cells))[:CELLS_TO_CLUSTER]
    means = []
    for part in np.array_split(cells[np.sort(chosen)], -(-len(chosen) // CELLS_AT_ONCE)):
        batch = neighborhoods.batch(neighborhoods.tokens(part))
        features = (batch.features.cpu().float() - network.mean) / network.std
        means.append(neighborhood_means(batch.to("cpu"), features))
    found = KMeans(k, n_init=N_STARTS, random_state=seed).fit(torch.cat(means).numpy())
    return torch.from_numpy(found.cluster_centers_).float()
