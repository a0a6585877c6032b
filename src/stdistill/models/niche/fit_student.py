"""From cells and a teacher's targets to a trained student."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stdistill._support.arrays import Integers
from stdistill._training.arguments import TrainingArguments
from stdistill._training.holdout import hold_out_blocks
from stdistill._training.sampling import spatial_order
from stdistill._training.state import own_torch_state
from stdistill._training.trainer import fit
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.distillation import Distillation, default_temperature
from stdistill.models.niche.fitting import Fitted, fingerprint_niches, new_network, share_capped

logger = logging.getLogger("stdistill")

CELLS_FOR_TEMPERATURE = 100_000


@own_torch_state()
def train_student(
    neighborhoods: Neighborhoods,
    libraries: Integers,
    targets: npt.NDArray[Any],
    training: npt.NDArray[np.bool_],
    *,
    k: int,
    size: dict[str, Any],
    temperature: float | None,
    patience: int | None,
    arguments: TrainingArguments,
) -> Fitted:
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
    size
        Arguments of `NicheNetwork`.
    temperature
        τ, for logits; by default `default_temperature`.
    patience
        Epochs without improvement on held-out blocks; `None` holds nothing out.
    arguments
        How to train, complete.
    """
    cells = np.flatnonzero(training)
    if targets.ndim == 1:
        temperature = None
    elif temperature is None:
        sample = np.random.default_rng(arguments["seed"]).permutation(cells)[:CELLS_FOR_TEMPERATURE]
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
            seed=arguments["seed"],
        )
        if not held_out.any():
            logger.info("The training tissue is too small to hold a part of it out: training does not stop early.")
            patience = None
    order = spatial_order(neighborhoods.centers, libraries)
    fitting_cells, held_out_cells = order[fitting[order]], order[held_out[order]]
    student = new_network(neighborhoods, fitting_cells, k, size, arguments["seed"])
    capped = share_capped(neighborhoods, cells)
    objective = Distillation(
        student,
        neighborhoods,
        torch.from_numpy(targets),
        temperature,
        fitting=fitting_cells,
        validation=held_out_cells,
        arguments=arguments,
        fingerprint=fingerprint_niches(
            neighborhoods, student, size, targets[cells], arguments, k, temperature, patience
        ),
    )
    history = fit(objective, patience=patience)
    objective.finish()
    record = {
        "n_training_cells": len(fitting_cells),
        "n_validation_cells": len(held_out_cells),
        "n_epochs": len(history),
        "share_capped": capped,
    }
    return Fitted(student.eval(), history, record, temperature, held_out_cells)
