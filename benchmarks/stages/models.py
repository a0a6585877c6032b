"""Stages that train a model for a fixed number of steps and let it see all cells, or use one that is saved."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from stages.inputs import Inputs

import stdistill as sd

BATCH_SIZE = 128
"""Of scVI: it has no number of steps, so that it is given as many cells to train on as it will see."""
TRAINING = {"progress_bar": False, "accelerator": "cpu"}


def expression(inputs: Inputs) -> Callable[[], object]:
    """Train scVI, and encode the counts."""
    cells = inputs.counts()
    n_training = round(inputs.n_steps * BATCH_SIZE / 0.9)  # a tenth is held out
    is_training = np.random.default_rng(0).permutation(cells.n_obs) < n_training
    cells.obs["split"] = pd.Categorical(np.where(is_training, "train", "test"))
    return lambda: sd.pp.embed_expression(cells, max_epochs=1, batch_size=BATCH_SIZE, accelerator="cpu")


def teacher(inputs: Inputs) -> Callable[[], object]:
    """Fit a teacher to the expression latent."""
    cells = inputs.cells()
    sd.pp.neighborhoods(cells)
    return lambda: sd.tl.nolan(cells, max_steps=inputs.n_steps, key_added="fitted", **TRAINING)


def student(inputs: Inputs) -> Callable[[], object]:
    """Fit a student to the H&E features."""
    cells = inputs.cells()
    sd.pp.neighborhoods(cells)
    return lambda: sd.tl.distill(cells, max_steps=inputs.n_steps, key_added="fitted", **TRAINING)


def predict(inputs: Inputs) -> Callable[[], object]:
    """Let a saved student see all cells."""
    cells = inputs.cells()
    sd.pp.neighborhoods(cells, radius_um=sd.models.NicheModel.load(inputs.folder / "student").card.radius_um)
    return lambda: sd.tl.predict(cells, inputs.folder / "student", key_added="predicted", device="cpu")
