"""What happens around training: history, best weights, early stopping that can be resumed, one progress bar."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EarlyStopping, ProgressBar
from torch import Tensor

from stdistill._support.progress import Progress
from stdistill._support.threads import FreeThreads

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


class StopAfter(Callback):
    """Stops after so many epochs, in the middle of a schedule that is longer."""

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go no further from the checkpoint at which training had stopped."""
        trainer.should_stop = trainer.current_epoch >= self.n_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.n_epochs


class Bar(Callback):
    """Shows how far a training is, and ends the bar whatever becomes of it."""

    progress: Progress | None = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        if self.progress is not None:
            self.progress.close()
            self.progress = None


class OneBar(Bar, ProgressBar):
    """One bar over all epochs, with the losses of the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: dict[str, float] = {}
        self.enabled = True

    def disable(self) -> None:
        """Lightning calls this in all processes but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self.enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.enabled:
            steps = int(trainer.estimated_stepping_batches)
            self.progress = Progress(steps, "Training", "steps", done=trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.progress is not None:
            self.progress.advance(trainer.global_step - self.progress.done, **self.losses)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.losses = {name: value for name, value in metrics.items() if name.endswith("loss")}


class Epochs(Bar):
    """Shows how many epochs are done, of a training whose bar is not ours."""

    def __init__(self, n_epochs: int, what: str) -> None:
        self.n_epochs, self.what = n_epochs, what

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.progress = Progress(self.n_epochs, self.what, "epochs")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.progress is not None:
            self.progress.advance()


class AdjustThreads(Callback):
    """Looks now and then how many threads torch may take."""

    def __init__(self, threads: FreeThreads) -> None:
        self.threads = threads

    def on_train_batch_start(self, *args: Any) -> None:
        self.threads.adjust()

    def on_validation_batch_start(self, *args: Any) -> None:
        self.threads.adjust()

    def on_predict_batch_start(self, *args: Any) -> None:
        self.threads.adjust()
