"""Training: a quiet Lightning Trainer that both objectives share."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, ProgressBar
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from stdistill._support.quiet import quiet
from stdistill._training.sampling import BatchRequest, TileSampler
from stdistill.models.niche.batches import Integers
from stdistill.models.niche.network import NicheNetwork

logger = logging.getLogger("stdistill")

VALIDATION_LOSS = "validation_loss"
WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""


@dataclass(frozen=True)
class TrainerOptions:
    """How to train, in the words of :class:`lightning.pytorch.Trainer`."""

    max_epochs: int
    max_steps: int = -1
    accelerator: str = "auto"
    devices: int | str | list[int] = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    checkpoint_dir: str | Path | None = None
    """Where to leave a checkpoint after each epoch, from which a run that was killed goes on."""
    progress_bar: bool = True


@dataclass(frozen=True)
class Learning:
    """How a network learns, whatever the objective."""

    batch_size: int
    """Cells per step and process."""
    learning_rate: float
    weight_decay: float
    """Of AdamW, see `adamw`."""
    seed: int
    """Of the weights and all that is random in training."""
    n_workers: int = 0
    """Processes that make batches, beside the one that trains."""


class NicheModule(pl.LightningModule):
    """What both objectives have in common: the cells of a step, the optimiser, random numbers, the fingerprint.

    Parameters
    ----------
    network
        To train.
    data
        Makes the batch of some cells.
    training
        Cells to learn from, in spatial order.
    learning
        How.
    fingerprint
        What makes this run what it is; a checkpoint of a run with another one is refused.
    """

    def __init__(
        self,
        network: NicheNetwork,
        data: Dataset[Any],
        training: Integers,
        learning: Learning,
        fingerprint: dict[str, Any],
    ) -> None:
        super().__init__()
        self.network = network
        self.data = data
        self.training_cells = training
        self.learning = learning
        self.fingerprint = fingerprint

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return int(self.trainer.estimated_stepping_batches)

    def train_dataloader(self) -> DataLoader[Any]:
        """Compact tiles from all over the slides."""
        sampler = TileSampler(
            self.training_cells,
            batch_size=self.learning.batch_size,
            seed=self.learning.seed,
            rank=self.trainer.global_rank,
            n_ranks=self.trainer.world_size,
        )
        return self.load(sampler)

    def load(self, requests: Iterable[BatchRequest]) -> DataLoader[Any]:
        """Make the batches of some cells each."""
        return request_loader(requests, self.data, n_workers=self.learning.n_workers)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """See `adamw`."""
        return adamw(self.network, self.learning, n_steps=self.n_steps)

    def on_train_epoch_start(self) -> None:
        """Seed by epoch, so that a resumed run draws what an uninterrupted one does; each process for itself."""
        place = (self.learning.seed, self.current_epoch, self.global_rank)
        state = np.random.SeedSequence(place).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the fingerprint into the checkpoint."""
        checkpoint["fingerprint"] = self.fingerprint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another run."""
        found = checkpoint.get("fingerprint", {})
        other = sorted(key for key in {*self.fingerprint, *found} if self.fingerprint.get(key) != found.get(key))
        if other:
            changes = ", ".join(f"{key}: {found.get(key)!r}, now {self.fingerprint.get(key)!r}" for key in other)
            msg = f"The checkpoint is of another run ({changes}). Give another checkpoint_dir, or empty this one."
            raise ValueError(msg)


def adamw(network: nn.Module, learning: Learning, *, n_steps: int) -> OptimizerLRSchedulerConfig:
    """AdamW with a learning rate that rises over the first steps and then falls along a cosine.

    Biases, norms and the class token are not decayed.
    """
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": learning.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=learning.learning_rate,
    )
    n_rising = max(1, round(WARM_UP * n_steps))

    def share(step: int) -> float:
        if step < n_rising:
            return (step + 1) / n_rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - n_rising) / max(1, n_steps - n_rising))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(module: NicheModule, options: TrainerOptions, *, patience: int | None = None) -> pd.DataFrame:
    """Train `module`, which brings its own data loaders, and return what it logged in each epoch.

    Parameters
    ----------
    module
        Trained in place; when it logs ``"validation_loss"``, it ends with the weights of the best epoch.
    options
        How to train. The last checkpoint stays, and the same run goes on from it without a further step.
    patience
        Stop after so many epochs without a better ``"validation_loss"``.
    """
    history = _History()
    callbacks: list[Callback] = [history]
    if patience is not None:
        callbacks += [_BestWeights(), _ResumableStop(VALIDATION_LOSS, patience=patience, min_delta=0.0)]
    resume: Path | None = None
    if options.checkpoint_dir is not None:
        resume = Path(options.checkpoint_dir) / "resume.ckpt"
        callbacks.append(
            ModelCheckpoint(
                resume.parent, resume.stem, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
            )
        )
    if options.progress_bar:
        callbacks.append(_OneBar())
    with quiet(), _deterministic():
        trainer = pl.Trainer(
            max_epochs=options.max_epochs,
            max_steps=options.max_steps,
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            precision=options.precision,  # type: ignore[arg-type]
            callbacks=callbacks,
            deterministic=True,
            use_distributed_sampler=False,  # our samplers share the cells out themselves
            num_sanity_val_steps=0,
            limit_val_batches=None if patience is not None else 0,
            logger=False,
            enable_checkpointing=resume is not None,
            enable_model_summary=False,
            enable_progress_bar=options.progress_bar,
        )
        found = resume is not None and resume.is_file()
        if found:
            logger.info("Going on from %s.", resume)
        trainer.fit(module, ckpt_path=resume if found else None, weights_only=True)
    rows = pd.DataFrame(history.rows).set_index("epoch")
    if not np.isfinite(rows["training_loss"].iloc[-1]):
        msg = (
            f"Training diverged: the loss is {rows['training_loss'].iloc[-1]} after {len(rows)} epochs. Lower the "
            'learning_rate, or train with precision="32-true".'
        )
        raise RuntimeError(msg)
    return rows


def request_loader(requests: Iterable[BatchRequest], dataset: Dataset[Any], *, n_workers: int = 0) -> DataLoader[Any]:
    """Load the batches of a sampler."""
    return DataLoader(
        dataset,
        sampler=requests,
        batch_size=None,
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # not torch's own, from which dropout draws
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from `seed`, and leave the user's own generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _deterministic() -> Iterator[None]:
    """Put back what ``Trainer(deterministic=True)`` and the seeds of the epochs change."""
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)


class _History(Callback):
    """One row per epoch of all that was logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, **metrics})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


class _BestWeights(Callback):
    """Ends with the weights of the best epoch; every process keeps its own copy, in memory."""

    def __init__(self) -> None:
        self.loss = float("inf")
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics[VALIDATION_LOSS])
        if loss < self.loss:
            self.loss = loss
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.weights:
            pl_module.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loss, self.weights = state_dict["loss"], state_dict["weights"]


class _ResumableStop(EarlyStopping):
    """Early stopping that a checkpoint remembers, and that judges the steps of a cut epoch as well."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go no further from the checkpoint at which training had stopped."""
        trainer.should_stop = self.stopped_epoch > 0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Stop at `max_steps`, so that the steps of a last, cut epoch are validated as well."""
        trainer.should_stop = trainer.should_stop or trainer.global_step == trainer.max_steps


class _OneBar(ProgressBar):
    """One bar over all epochs, with the losses of the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: tqdm[Any] | None = None
        self.enabled = True

    def disable(self) -> None:
        """Lightning calls this in all processes but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self.enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar = tqdm(
            total=int(trainer.estimated_stepping_batches),
            initial=trainer.global_step,
            desc="Training",
            unit="step",
            disable=not self.enabled,
        )

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.bar is not None:
            self.bar.update(trainer.global_step - self.bar.n)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is not None:
            metrics = trainer.callback_metrics
            losses = {name: f"{float(value):.4f}" for name, value in metrics.items() if name.endswith("loss")}
            self.bar.set_postfix(losses, refresh=False)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the bar, also when training failed."""
        if self.bar is not None:
            self.bar.close()
