"""What happens around training: history, best weights, early stopping that can be resumed, one progress bar."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EarlyStopping, ProgressBar
from torch import Tensor
from tqdm.auto import tqdm

VALIDATION_LOSS = "validation_loss"


class History(Callback):
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


class BestWeights(Callback):
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


class ResumableStop(EarlyStopping):
    """Early stopping that a checkpoint remembers, and that judges the steps of a cut epoch as well."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go no further from the checkpoint at which training had stopped."""
        trainer.should_stop = self.stopped_epoch > 0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Stop at `max_steps`, so that the steps of a last, cut epoch are validated as well."""
        trainer.should_stop = trainer.should_stop or trainer.global_step == trainer.max_steps


class OneBar(ProgressBar):
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
