"""What happens around training, by a trainer that only says where it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from stdistill._support import progress
from stdistill._training.callbacks import VALIDATION_LOSS, BestWeights, Epochs, History, OneBar, ResumableStop


def at(epoch: int = 0, **found: Any) -> Any:
    place: dict[str, Any] = {"current_epoch": epoch, "callback_metrics": {}, "is_global_zero": True, "global_step": 0}
    return SimpleNamespace(**place | {"estimated_stepping_batches": 10, "should_stop": False, "max_steps": -1} | found)


def show_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)


def test_history_goes_on_from_a_checkpoint() -> None:
    first, second = History(), History()
    first.on_train_epoch_end(at(0, callback_metrics={"training_loss": torch.tensor(0.5)}), None)  # type: ignore[arg-type]
    second.load_state_dict(first.state_dict())
    second.on_train_epoch_end(at(1, callback_metrics={"training_loss": torch.tensor(0.25)}), None)  # type: ignore[arg-type]
    assert second.rows == [{"epoch": 0, "training_loss": 0.5}, {"epoch": 1, "training_loss": 0.25}]


def test_the_best_weights_are_kept_apart_from_those_that_go_on() -> None:
    """A copy of their own, which a checkpoint takes along."""
    layer: Any = nn.Linear(1, 1, bias=False)
    best = BestWeights()
    for weight, loss in ((1.0, 3.0), (2.0, 1.0), (3.0, 2.0), (4.0, float("nan"))):
        layer.weight.data.fill_(weight)
        best.on_validation_end(at(callback_metrics={VALIDATION_LOSS: torch.tensor(loss)}), layer)
    again = BestWeights()
    again.load_state_dict(best.state_dict())
    again.on_validation_end(at(callback_metrics={VALIDATION_LOSS: torch.tensor(1.5)}), layer)
    again.on_fit_end(at(), layer)
    assert again.loss == 1.0
    assert layer.weight.item() == 2.0


def test_without_validation_the_last_weights_stay() -> None:
    layer: Any = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(7.0)
    BestWeights().on_fit_end(at(), layer)
    assert layer.weight.item() == 7.0


def test_stopping_is_remembered() -> None:
    stop = ResumableStop(VALIDATION_LOSS, patience=2)
    fresh, stopped = at(should_stop=True), at()
    stop.on_train_start(fresh, None)  # type: ignore[arg-type]
    assert not fresh.should_stop
    stop.stopped_epoch = 3
    again = ResumableStop(VALIDATION_LOSS, patience=2)
    again.load_state_dict(stop.state_dict())
    again.on_train_start(stopped, None)  # type: ignore[arg-type]
    assert stopped.should_stop


@pytest.mark.parametrize(("step", "most", "expected"), [(3, 3, True), (2, 3, False), (3, -1, False)])
def test_the_last_step_stops(step: int, most: int, expected: bool) -> None:
    trainer = at(global_step=step, max_steps=most)
    ResumableStop(VALIDATION_LOSS).on_train_batch_end(trainer, None, None, 0)
    assert trainer.should_stop is expected


def test_a_bar_goes_on_where_the_checkpoint_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show_bars(monkeypatch)
    bar = OneBar()
    bar.on_train_start(at(global_step=6), None)  # type: ignore[arg-type]
    metrics = {
        "training_loss": torch.tensor(0.5),
        "validation_loss": torch.tensor(0.25),
        "uniformity": torch.tensor(1.0),
    }
    bar.on_train_epoch_end(at(callback_metrics=metrics), None)  # type: ignore[arg-type]
    bar.on_train_batch_end(at(global_step=8), None)
    bar.teardown(at(), None, "fit")  # type: ignore[arg-type]
    shown = capsys.readouterr().err
    assert "Training" in shown
    assert "8/10" in shown
    assert "training_loss 0.5000, validation_loss 0.2500" in shown
    assert "uniformity" not in shown
    assert bar.progress is None


def test_other_processes_have_no_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    show_bars(monkeypatch)
    bar = OneBar()
    bar.disable()
    bar.on_train_start(at(), None)  # type: ignore[arg-type]
    bar.on_train_batch_end(at(global_step=1), None)
    bar.teardown(at(), None, "fit")  # type: ignore[arg-type]
    other = Epochs(3, "scVI")
    other.on_train_start(at(is_global_zero=False), None)  # type: ignore[arg-type]
    other.on_train_epoch_end(at(), None)  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("fails", [False, True])
def test_epochs_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool) -> None:
    """The bar is closed in any case: what is written next has a line of its own."""
    show_bars(monkeypatch)
    bar = Epochs(3, "scVI")
    bar.on_train_start(at(), None)  # type: ignore[arg-type]
    for epoch in range(2):
        bar.on_train_epoch_end(at(epoch), None)  # type: ignore[arg-type]
    if fails:
        bar.on_exception(at(), None, KeyboardInterrupt())  # type: ignore[arg-type]
    bar.teardown(at(), None, "fit")  # type: ignore[arg-type]
    shown = capsys.readouterr().err
    assert "2/3" in shown
    assert shown.endswith("\n")
    assert bar.progress is None
