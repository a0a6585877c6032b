"""What fitting a teacher and fitting a student have in common."""

from __future__ import annotations

import logging
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._training.trainer import Learning, TrainerOptions, seeded
from stdistill.models.niche.batches import Integers, Neighborhoods, feature_statistics
from stdistill.models.niche.network import NicheNetwork

logger = logging.getLogger("stdistill")


class Fitted(NamedTuple):
    """A trained network and how it came about."""

    network: NicheNetwork
    history: pd.DataFrame
    training: dict[str, Any]
    """Numbers of cells and epochs."""
    temperature: float | None = None
    """τ, of a student of logits."""


def new_network(
    neighborhoods: Neighborhoods, cells: Integers, k: int, arguments: dict[str, Any], seed: int
) -> NicheNetwork:
    """Build a network with random weights that standardises features by those of `cells`."""
    mean, std = feature_statistics(neighborhoods.features, cells)
    if not (std > 0).any():
        msg = f"All {len(cells)} training cells have the same features: there are no niches to tell apart."
        raise ValueError(msg)
    with seeded(seed):
        network = NicheNetwork(len(mean), k, **arguments)
    network.set_standardization(mean, std)
    return network


def share_capped(neighborhoods: Neighborhoods, cells: Integers) -> float:
    """Share of the neighbourhoods that `max_tokens` cuts, which is said in the log."""
    share = neighborhoods.share_capped(cells)
    if share:
        logger.info(
            "max_tokens=%d cuts the neighbourhoods of %.1f %% of the training cells.",
            neighborhoods.max_tokens,
            100 * share,
        )
    return share


def fingerprint_run(
    neighborhoods: Neighborhoods,
    network: NicheNetwork,
    arguments: dict[str, Any],
    values: npt.NDArray[Any],
    learning: Learning,
    options: TrainerOptions,
    *settings: Any,
) -> dict[str, Any]:
    """Say what makes a run what it is, so that no other run goes on from its checkpoint.

    Parameters
    ----------
    neighborhoods
        What is seen of the cells.
    network, arguments
        The network before training, with the statistics of the training cells, and what it was built from.
    values
        What each training cell is known by: targets, or its place.
    learning, options
        How it is trained; by how many workers does not matter.
    settings
        Of the objective.
    """
    statistics = (network.mean.numpy(), network.std.numpy())
    recipe = (learning.batch_size, learning.learning_rate, learning.weight_decay, learning.seed)
    return {
        "n_training_cells": len(values),
        "data": _checksum(values, *statistics),
        "neighborhoods": str(
            (neighborhoods.radius_um, neighborhoods.max_tokens, _checksum(neighborhoods.indptr, neighborhoods.indices))
        ),
        "network": str(sorted(arguments.items())),
        "training": str((*settings, *recipe)),
        "length": str((options.max_epochs, options.max_steps)),
        "devices": str((options.devices, options.num_nodes)),
        "precision": options.precision,
    }


def _checksum(*arrays: npt.NDArray[Any]) -> int:
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)  # not a copy: a graph may take a gigabyte
    return checksum
