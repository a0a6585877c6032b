"""Training: a quiet Lightning Trainer that all objectives share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from stdistill._support.quiet import quiet
from stdistill._support.threads import FreeThreads
from stdistill._training.callbacks import (
    VALIDATION_LOSS,
    AdjustThreads,
    BestWeights,
    History,
    OneBar,
    ResumableStop,
    StopAfter,
)
from stdistill._training.devices import environment, forked_rng, torch_device
from stdistill._training.objective import Objective
from stdistill._training.state import tensor_cores

logger = logging.getLogger("stdistill")


def fit(objective: Objective, *, patience: int | None = None, n_epochs: int | None = None) -> pd.DataFrame:
    """Train a network by its objective, and return what was logged in each epoch.

    Parameters
    ----------
    objective
        Its network is trained in place, as its arguments say. The last checkpoint stays, and the same run goes on from
        it without a further step.
    patience
        Stop after so many epochs without a better ``"validation_loss"``, and end with the weights of the best epoch;
        `None` does not validate.
    n_epochs
        End after so many epochs, while the learning rate goes by those of the arguments.
    """
    arguments = objective.arguments
    if isinstance(arguments["accelerator"], str):
        torch_device(arguments["accelerator"])  # says what is wrong with it in our words
    history = History()
    callbacks: list[Callback] = [history]
    if patience is not None:
        callbacks += [BestWeights(), ResumableStop(VALIDATION_LOSS, patience=patience, min_delta=0.0)]
    if n_epochs is not None:
        callbacks.append(StopAfter(n_epochs))
    resume: Path | None = None
    if arguments["checkpoint_dir"] is not None:
        resume = Path(arguments["checkpoint_dir"]).expanduser() / "resume.ckpt"
        callbacks.append(
            ModelCheckpoint(
                resume.parent, resume.stem, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
            )
        )
    if arguments["progress_bar"]:
        callbacks.append(OneBar())
    with quiet(), _deterministic(), tensor_cores(), FreeThreads() as threads:
        callbacks.append(AdjustThreads(threads))
        trainer = pl.Trainer(
            max_epochs=arguments["max_epochs"],
            max_steps=arguments["max_steps"],
            accelerator=arguments["accelerator"],
            devices=arguments["devices"],
            num_nodes=arguments["num_nodes"],
            strategy=arguments["strategy"],
            precision=arguments["precision"],  # type: ignore[arg-type]
            plugins=environment(arguments["devices"], arguments["num_nodes"]),
            callbacks=callbacks,
            deterministic=True,
            use_distributed_sampler=False,  # our samplers share the cells out themselves
            num_sanity_val_steps=0,
            limit_val_batches=None if patience is not None else 0,
            logger=False,
            enable_checkpointing=resume is not None,
            enable_model_summary=False,
            enable_progress_bar=arguments["progress_bar"],
        )
        found = resume is not None and resume.is_file()
        if found:
            logger.info("Going on from %s.", resume)
        try:
            trainer.fit(objective, ckpt_path=resume if found else None, weights_only=True)
        except torch.OutOfMemoryError as error:
            msg = (
                f"The device is out of memory with batch_size={arguments['batch_size']}: try a smaller one, or "
                f"max_tokens where there is such an argument. ({error})"
            )
            raise MemoryError(msg) from error
    rows = pd.DataFrame(history.rows).set_index("epoch")
    if not np.isfinite(rows["training_loss"].iloc[-1]):
        msg = (
            f"Training diverged: the loss is {rows['training_loss'].iloc[-1]} after {len(rows)} epochs. Lower the "
            'learning_rate, or train with precision="32-true".'
        )
        raise RuntimeError(msg)
    return rows


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from `seed`, and leave the user's own generator as it was."""
    with forked_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _deterministic() -> Iterator[None]:
    """Put back what ``Trainer(deterministic=True)`` and the seeds of the epochs change."""
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with forked_rng():
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)
