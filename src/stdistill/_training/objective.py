"""What is trained: a network, the data it learns from, and a loss."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric

from stdistill._support.arrays import Integers
from stdistill._support.files import describe_changes
from stdistill._training.arguments import TrainingArguments
from stdistill._training.callbacks import VALIDATION_LOSS
from stdistill._training.sampling import TILE_SIZE, BatchRequest, TileSampler

VALIDATION_BATCH = 512
WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""
PRETRAINED_RATE = 0.01
"""What the learning rate is multiplied by for weights that were trained before (our choice)."""


class Objective(pl.LightningModule):
    """What all objectives have in common: the rows of a step, the optimiser, random numbers, the fingerprint.

    An objective of its own says what its loss is.

    Parameters
    ----------
    network
        To train.
    data
        Makes the batch of a request.
    fitting
        Rows of the data to learn from, in an order in which neighbours are near.
    arguments
        How to train, complete.
    fingerprint
        What makes this run what it is; a checkpoint of a run with another one is refused.
    validation
        Rows to stop early by.
    """

    tile_size: ClassVar[int] = TILE_SIZE
    """Neighbouring rows that enter a batch together."""

    def __init__(
        self,
        network: nn.Module,
        data: Dataset[Any],
        fitting: Integers,
        arguments: TrainingArguments,
        fingerprint: dict[str, Any],
        *,
        validation: Integers | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.data = data
        self.fitting = fitting
        self.arguments = arguments
        self.fingerprint = fingerprint
        self.validation = np.empty(0, dtype=np.int64) if validation is None else validation
        self.validation_mean = MeanMetric()

    @abstractmethod
    def loss(self, batch: Any) -> tuple[Tensor, int]:
        """Return the mean loss over the rows of a batch, and their number."""

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return int(self.trainer.estimated_stepping_batches)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss to minimise."""
        loss, n_rows = self.loss(batch)
        self.log("training_loss", loss, on_step=False, on_epoch=True, batch_size=n_rows, sync_dist=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Average the loss over the validation rows of all processes."""
        loss, n_rows = self.loss(batch)
        self.validation_mean.update(loss, n_rows)
        self.log(VALIDATION_LOSS, self.validation_mean, batch_size=n_rows)

    def train_dataloader(self) -> DataLoader[Any]:
        """Compact tiles from all over the rows."""
        sampler = TileSampler(
            self.fitting,
            batch_size=self.arguments["batch_size"],
            tile_size=self.tile_size,
            seed=self.arguments["seed"],
            rank=self.trainer.global_rank,
            n_ranks=self.trainer.world_size,
        )
        return request_loader(sampler, self.data, n_workers=self.arguments["n_workers"])

    def val_dataloader(self) -> DataLoader[Any]:
        """All validation rows, in the same order each time; each process takes its share."""
        n_pieces = max(math.ceil(len(self.validation) / VALIDATION_BATCH), self.trainer.world_size)
        pieces = np.array_split(self.validation, n_pieces)
        share = pieces[self.trainer.global_rank :: self.trainer.world_size]
        requests = [BatchRequest(rows, ()) for rows in share]
        return request_loader(requests, self.data, n_workers=self.arguments["n_workers"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """See `adamw`."""
        return adamw(self.network, self.arguments, n_steps=self.n_steps)

    def on_train_epoch_start(self) -> None:
        """Seed by epoch, so that a resumed run draws what an uninterrupted one does; each process for itself."""
        place = (self.arguments["seed"], self.current_epoch, self.global_rank)
        state = np.random.SeedSequence(place).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the fingerprint into the checkpoint."""
        checkpoint["fingerprint"] = self.fingerprint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another run."""
        changes = describe_changes(checkpoint.get("fingerprint", {}), self.fingerprint)
        if changes:
            msg = f"The checkpoint is of another run ({changes}). Give another checkpoint_dir, or empty this one."
            raise ValueError(msg)


def adamw(
    network: nn.Module, arguments: TrainingArguments, *, n_steps: int, pretrained: nn.Module | None = None
) -> OptimizerLRSchedulerConfig:
    """AdamW with a learning rate that rises over the first steps and then falls along a cosine.

    Biases, norms and the class token are not decayed. What is `pretrained` learns more slowly, by `PRETRAINED_RATE`,
    and is not decayed either: its weights are not to be forgotten.
    """
    rate, decay = arguments["learning_rate"], arguments["weight_decay"]
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    if pretrained is not None:
        slow = [p for p in pretrained.parameters() if p.requires_grad]
        groups.append({"params": slow, "weight_decay": 0.0, "lr": PRETRAINED_RATE * rate})
    optimizer = torch.optim.AdamW(groups, lr=rate)
    n_rising = max(1, round(WARM_UP * n_steps))

    def share(step: int) -> float:
        if step < n_rising:
            return (step + 1) / n_rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - n_rising) / max(1, n_steps - n_rising))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def request_loader(requests: Iterable[BatchRequest], data: Dataset[Any], *, n_workers: int = 0) -> DataLoader[Any]:
    """Load the batches of a sampler."""
    return DataLoader(
        data,
        sampler=requests,
        batch_size=None,
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # not torch's own, from which dropout draws
    )
