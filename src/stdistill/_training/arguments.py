"""How a model is trained: the arguments of every function that trains one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

import numpy as np

from stdistill._support.checks import check_integer, check_positive

Standardization = Literal["training", "slide"]
"""By what cells features are brought to one mean and spread."""


class TrainingArguments(TypedDict, total=False):
    """How a model is trained, whatever the objective; in Lightning's words where it has some.

    Parameters
    ----------
    batch_size
        Cells per step and device.
    learning_rate, weight_decay
        Of AdamW, whose learning rate rises over the first tenth of the steps and then falls along a cosine.
    max_epochs, max_steps
        How long to train, whichever ends first; `None`: by the number of training cells, as the notes below say.
    accelerator, devices, num_nodes, strategy, precision
        As of :class:`lightning.pytorch.Trainer`. With several devices each of the processes returns the model and
        writes to its own table: let one of them save.
    n_workers
        Processes that make batches, beside the one that trains; the result does not depend on it.
    checkpoint_dir
        Folder for a checkpoint after each epoch. The same call goes on from it, to the same bits: after a kill to the
        end, after the end without training again.
    progress_bar
        Whether to show one.
    seed
        Of the weights, the order of the cells and all else that is random.
    """

    batch_size: int
    learning_rate: float
    weight_decay: float
    max_epochs: int | None
    max_steps: int
    accelerator: str
    devices: int | str | list[int]
    num_nodes: int
    strategy: str
    precision: str
    n_workers: int
    checkpoint_dir: str | Path | None
    progress_bar: bool
    seed: int


DEFAULTS: TrainingArguments = {
    "batch_size": 256,
    "learning_rate": 1e-3,
    "weight_decay": 0.04,
    "max_epochs": None,
    "max_steps": -1,
    "accelerator": "auto",
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "precision": "32-true",
    "n_workers": 0,
    "checkpoint_dir": None,
    "progress_bar": True,
    "seed": 0,
}


def check_training(arguments: TrainingArguments) -> None:
    """Raise when an argument is out of range."""
    check_integer(arguments["batch_size"], "batch_size", minimum=1)
    check_positive(arguments["learning_rate"], "learning_rate")
    if arguments["max_epochs"] is not None:
        check_integer(arguments["max_epochs"], "max_epochs", minimum=1)
    check_integer(arguments["max_steps"], "max_steps", minimum=-1)
    if arguments["max_steps"] == 0:
        msg = "Expected max_steps to be at least 1, or -1 for no limit, found 0."
        raise ValueError(msg)
    check_integer(arguments["seed"], "seed", minimum=0, maximum=2**32 - 1)  # also scikit-learn's


def default_epochs(n_training: int, n_seen: int, bounds: tuple[int, int]) -> int:
    """Epochs that see `n_seen` cells, rows or tiles together, within bounds."""
    return int(np.clip(round(n_seen / n_training), *bounds))
