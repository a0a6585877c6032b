"""From cells to a trained teacher of niches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stdistill._support.arrays import Integers
from stdistill._training.arguments import TrainingArguments
from stdistill._training.sampling import spatial_order
from stdistill._training.state import own_torch_state
from stdistill._training.trainer import fit
from stdistill.models.niche.arguments import Centering
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.fitting import Fitted, fingerprint_niches, new_network, share_capped
from stdistill.models.niche.plain.clusters import fit_clusters
from stdistill.models.niche.plain.means import Scale
from stdistill.models.niche.self_distillation import SelfDistillation


@own_torch_state()
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
    clusters = fit_clusters(neighborhoods, cells, k, Scale(student.mean, student.std), arguments["seed"])
    places = neighborhoods.centers[cells]
    objective = SelfDistillation(
        student,
        neighborhoods,
        torch.from_numpy(clusters.centers),
        centering=centering,
        fitting=cells,
        arguments=arguments,
        fingerprint=fingerprint_niches(neighborhoods, student, size, places, arguments, k, centering),
    )
    history = fit(objective)
    record = {"n_training_cells": len(cells), "n_epochs": len(history), "share_capped": capped}
    return Fitted(objective.finish(), history, record)
