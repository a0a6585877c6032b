"""What fitting a teacher and fitting a student have in common."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._support.arrays import Integers
from stdistill._support.files import digest
from stdistill._training.arguments import TrainingArguments
from stdistill._training.fingerprint import fingerprint_run
from stdistill._training.trainer import seeded
from stdistill.models.features import digest_rows, feature_statistics
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.network import NicheNetwork

logger = logging.getLogger("stdistill")


NONE: Integers = np.empty(0, dtype=np.intp)


class Fitted(NamedTuple):
    """A trained network and how it came about."""

    network: NicheNetwork
    history: pd.DataFrame
    training: dict[str, Any]
    """Numbers of cells and epochs."""
    temperature: float | None = None
    """τ, of a student of logits."""
    held_out: Integers = NONE
    """Training cells that it did not learn from, but stopped by."""


def new_network(
    neighborhoods: Neighborhoods, cells: Integers, k: int, arguments: dict[str, Any], seed: int
) -> NicheNetwork:
    """Build a network with random weights that standardises features by those of `cells`."""
    mean, std = feature_statistics(neighborhoods.looks, cells)
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


def fingerprint_niches(
    neighborhoods: Neighborhoods,
    network: NicheNetwork,
    size: dict[str, Any],
    values: npt.NDArray[Any],
    arguments: TrainingArguments,
    *settings: Any,
) -> dict[str, Any]:
    """Say what makes a run of a niche model what it is.

    Parameters
    ----------
    neighborhoods
        What is seen of the cells.
    network, size
        The network before training, with the statistics of the training cells, and what it was built from.
    values
        What each training cell is known by: targets, or its place.
    arguments
        How it is trained.
    settings
        Of the objective.
    """
    graph = digest(neighborhoods.indptr, neighborhoods.indices)
    # Only a checkpoint has to know its features from others.
    keeps = arguments["checkpoint_dir"] is not None
    rows = np.arange(len(neighborhoods.centers))
    return fingerprint_run(
        arguments,
        *settings,
        features=digest(*(digest_rows(look, rows) for look in neighborhoods.looks)) if keeps else None,
        n_training_cells=len(values),
        data=digest(values, network.mean.numpy(), network.std.numpy()),
        neighborhoods=str((neighborhoods.radius_um, neighborhoods.max_tokens, graph)),
        network=str(sorted(size.items())),
    )
