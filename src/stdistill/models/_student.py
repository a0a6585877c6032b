"""From cells and a teacher's targets to a trained student."""

from __future__ import annotations

import logging
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from stdistill.models._batches import Integers, Neighborhoods, feature_statistics
from stdistill.models._distillation import Distillation, default_temperature
from stdistill.models._holdout import hold_out_blocks
from stdistill.models._network import NicheNetwork
from stdistill.models._sampling import spatial_order
from stdistill.models._training import TrainerOptions, fit, seeded

logger = logging.getLogger("stdistill")

CELLS_FOR_TEMPERATURE = 100_000


class Student(NamedTuple):
    """A trained student and how it came about."""

    network: NicheNetwork
    history: pd.DataFrame
    temperature: float | None
    training: dict[str, Any]
    """Numbers of cells and epochs."""


def train_student(
    neighborhoods: Neighborhoods,
    libraries: Integers,
    targets: npt.NDArray[Any],
    training: npt.NDArray[np.bool_],
    *,
    k: int,
    network: dict[str, Any],
    temperature: float | None,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    patience: int | None,
    seed: int,
    n_workers: int,
    options: TrainerOptions,
) -> Student:
    """Train a network on targets.

    Parameters
    ----------
    neighborhoods
        Cells of one or several slides.
    libraries
        (n,), number of each cell's slide.
    targets
        (n, k) float32 logits of a teacher, or (n,) int64 labels.
    training
        (n,), cells to train on; they have features and targets.
    k
        Number of niches.
    network
        Arguments of `NicheNetwork`.
    temperature
        τ, for logits; by default `default_temperature`.
    batch_size, learning_rate, weight_decay, seed, n_workers
        See `Distillation`.
    patience
        Epochs without improvement on held-out blocks; `None` holds nothing out.
    options
        Of the Trainer.
    """
    cells = np.flatnonzero(training)
    if targets.ndim == 1:
        temperature = None
    elif temperature is None:
        sample = np.random.default_rng(seed).permutation(cells)[:CELLS_FOR_TEMPERATURE]
        temperature = default_temperature(targets[sample])
    fitting, held_out = training, np.zeros_like(training)
    if patience is not None:
        fitting, held_out = hold_out_blocks(
            neighborhoods.centers,
            libraries,
            neighborhoods.indptr,
            neighborhoods.indices,
            training,
            radius_um=neighborhoods.radius_um,
            seed=seed,
        )
        if not held_out.any():
            logger.info("The training tissue is too small to hold a part of it out: training does not stop early.")
            patience = None
    order = spatial_order(neighborhoods.centers, libraries)
    fitting_cells, held_out_cells = order[fitting[order]], order[held_out[order]]
    mean, std = feature_statistics(neighborhoods.features, fitting_cells)
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
        "data": zlib.crc32(targets[cells].tobytes(), zlib.crc32(mean.numpy().tobytes())),
        "network": str(sorted(network.items())),
        "training": str((k, temperature, batch_size, learning_rate, weight_decay, patience, seed)),
        "length": str((options.max_epochs, options.max_steps)),
    }
    module = Distillation(
        student,
        neighborhoods,
        torch.from_numpy(targets),
        temperature,
        training=fitting_cells,
        validation=held_out_cells,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        n_workers=n_workers,
        fingerprint=fingerprint,
    )
    history = fit(module, options, patience=patience)
    module.finish()
    record = {
        "n_training_cells": len(fitting_cells),
        "n_validation_cells": len(held_out_cells),
        "n_epochs": len(history),
        "share_capped": capped,
    }
    return Student(student.eval(), history, temperature, record)
