"""The trainer that all objectives share: when it stops, which weights it ends with, what it leaves as it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from stdistill._support import progress
from stdistill._training.arguments import DEFAULTS
from stdistill._training.objective import PRETRAINED_RATE, adamw
from stdistill._training.trainer import fit, seeded


def weight_of(objective: Any) -> float:
    return float(objective.network.weight.detach())


def test_a_line_is_learned(make_objective: Callable[..., Any]) -> None:
    objective = make_objective(max_epochs=200, learning_rate=0.1)
    history = fit(objective)
    assert weight_of(objective) == pytest.approx(2, abs=0.02)
    assert float(objective.network.bias.detach()) == pytest.approx(1, abs=0.02)
    assert history.index.tolist() == list(range(200))
    assert list(history.columns) == ["training_loss"]
    assert history["training_loss"].iloc[-1] < 1e-3 < history["training_loss"].iloc[0]


def test_the_first_step_by_hand(make_objective: Callable[..., Any]) -> None:
    """Adam's first step is one learning rate long, against the sign of the gradient; weights decay, biases do not."""
    objective = make_objective(max_epochs=1, batch_size=40, learning_rate=0.01, weight_decay=0.5)
    before, bias = weight_of(objective), float(objective.network.bias.detach())
    x = objective.data.x[:40]
    error = objective.network(x).detach() - (2 * x + 1)
    slope, shift = float((2 * error * x).mean()), float((2 * error).mean())
    fit(objective)
    assert weight_of(objective) == pytest.approx(before * (1 - 0.01 * 0.5) - 0.01 * np.sign(slope), abs=1e-6)
    assert float(objective.network.bias.detach()) == pytest.approx(bias - 0.01 * np.sign(shift), abs=1e-6)


@pytest.mark.parametrize("n_steps", [1, 10, 40])
def test_the_learning_rate_rises_and_falls(n_steps: int) -> None:
    network, base = nn.Linear(2, 2), nn.Linear(2, 2)
    made: Any = adamw(network, DEFAULTS | {"learning_rate": 0.2}, n_steps=n_steps, pretrained=base)  # type: ignore[operator]
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    rising = max(1, round(n_steps / 10))
    for step in range(n_steps + 1):
        if step < rising:
            expected = 0.2 * (step + 1) / rising
        else:
            expected = 0.1 * (1 + math.cos(math.pi * (step - rising) / max(1, n_steps - rising)))
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([expected, expected, PRETRAINED_RATE * expected], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_what_decays_and_what_learns() -> None:
    """Matrices decay; biases, norms and what was trained before do not; what is frozen is not there at all."""
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    network[2].requires_grad_(False)
    base = nn.Linear(5, 5)
    made: Any = adamw(network, DEFAULTS, n_steps=10, pretrained=base)
    decayed, others, slow = made["optimizer"].param_groups
    assert [id(each) for each in decayed["params"]] == [id(network[0].weight)]
    assert {id(each) for each in others["params"]} == {id(each) for each in (network[0].bias, *network[1].parameters())}
    assert [id(each) for each in slow["params"]] == [id(each) for each in base.parameters()]
    assert [group["weight_decay"] for group in (decayed, others, slow)] == [DEFAULTS["weight_decay"], 0, 0]


def test_it_ends_with_the_best_epoch(make_objective: Callable[..., Any]) -> None:
    """The weights of the second epoch, after which the loss of the held-out rows only rose."""
    long = make_objective(max_epochs=9, batch_size=20, learning_rate=0.05, said=(5.0, 1.0, *range(2, 9)))
    weights: list[float] = []
    end = long.on_train_epoch_end
    long.on_train_epoch_end = lambda: (weights.append(weight_of(long)), end())
    history = fit(long, patience=3)
    assert history["validation_loss"].tolist() == [5, 1, 2, 3, 4]  # three epochs without a better one
    assert len(weights) == 5
    assert weight_of(long) == weights[1]
    assert len(set(weights)) == 5


def test_an_equal_loss_is_no_better_one(make_objective: Callable[..., Any]) -> None:
    assert len(fit(make_objective(max_epochs=9, said=(1.0,) * 9), patience=2)) == 3


def test_without_patience_nothing_is_validated(make_objective: Callable[..., Any]) -> None:
    assert list(fit(make_objective(said=())).columns) == ["training_loss"]


def test_the_steps_of_a_cut_epoch_are_validated(make_objective: Callable[..., Any]) -> None:
    """Three steps are an epoch and a half."""
    objective = make_objective(max_epochs=9, max_steps=3, said=(2.0, 1.0))
    history = fit(objective, patience=5)
    assert history["validation_loss"].tolist() == [2, 1]


def test_a_finished_run_is_not_trained_again(make_objective: Callable[..., Any], tmp_path: Path) -> None:
    first = make_objective(checkpoint_dir=tmp_path)
    history = fit(first)
    again = make_objective(checkpoint_dir=tmp_path)
    steps: list[int] = []
    again.on_train_batch_start = lambda batch, number: steps.append(number)
    pd.testing.assert_frame_equal(fit(again), history)
    assert not steps
    assert weight_of(again) == weight_of(first)


def test_a_run_that_had_stopped_goes_no_further(make_objective: Callable[..., Any], tmp_path: Path) -> None:
    """It ends with the weights of its best epoch, also when it is begun again."""
    said = (3.0, 1.0, 2.0, 2.0, 0.0)
    first = make_objective(max_epochs=5, said=said, checkpoint_dir=tmp_path)
    history = fit(first, patience=2)
    again = make_objective(max_epochs=5, said=said, checkpoint_dir=tmp_path)
    pd.testing.assert_frame_equal(fit(again, patience=2), history)
    assert history["validation_loss"].tolist() == [3, 1, 2, 2]
    assert weight_of(again) == weight_of(first)


def test_it_ends_in_the_middle_of_a_schedule(make_objective: Callable[..., Any], tmp_path: Path) -> None:
    """With the weights that a longer run has there; the same run goes on from its checkpoint without a further step."""
    longer, weights = make_objective(max_epochs=4), []
    longer.on_train_epoch_end = lambda: weights.append(weight_of(longer))
    fit(longer)
    first = make_objective(max_epochs=4, checkpoint_dir=tmp_path)
    history = fit(first, n_epochs=2)
    assert history.index.tolist() == [0, 1]
    assert weight_of(first) == weights[1]
    again = make_objective(max_epochs=4, checkpoint_dir=tmp_path)
    pd.testing.assert_frame_equal(fit(again, n_epochs=2), history)
    assert weight_of(again) == weights[1]


def test_another_run_is_not_gone_on_with(make_objective: Callable[..., Any], tmp_path: Path) -> None:
    fit(make_objective(checkpoint_dir=tmp_path))
    for changes in ({"seed": 1}, {"max_epochs": 8}, {"batch_size": 10}, {"learning_rate": 0.1}):
        with pytest.raises(ValueError, match=r"checkpoint is of another run \(.*Give another checkpoint_dir, or empty"):
            fit(make_objective(checkpoint_dir=tmp_path, **changes))
    fit(make_objective(checkpoint_dir=tmp_path, n_workers=0, progress_bar=True))  # change no result


def test_a_loss_that_is_not_finite(make_objective: Callable[..., Any]) -> None:
    objective = make_objective(max_epochs=2)
    objective.data.x[:] = torch.nan
    with pytest.raises(RuntimeError, match=r"Training diverged: the loss is nan after 2 epochs\. Lower the learning_r"):
        fit(objective)


def test_a_device_that_is_full(make_objective: Callable[..., Any]) -> None:
    objective = make_objective()

    def fail(batch: Any) -> Any:
        raise torch.OutOfMemoryError

    objective.loss = fail
    with pytest.raises(MemoryError, match=r"out of memory with batch_size=20: try a smaller one, or max_tokens"):
        fit(objective)


def test_what_is_the_users_stays_as_it_was(make_objective: Callable[..., Any]) -> None:
    """Random numbers, and whether torch has to be deterministic; also when training fails."""
    objective = make_objective()
    broken = make_objective()
    broken.data.x[:] = torch.nan
    torch.manual_seed(7)
    expected = torch.rand(3)
    for each in (objective, broken):
        torch.manual_seed(7)
        try:
            fit(each)
        except RuntimeError:
            assert each is broken
        assert torch.equal(torch.rand(3), expected)
        assert not torch.are_deterministic_algorithms_enabled()


def test_seeded() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with seeded(1):
        first = torch.rand(3)
    with seeded(1):
        assert torch.equal(torch.rand(3), first)
    with seeded(2):
        assert not torch.equal(torch.rand(3), first)
    assert torch.equal(torch.rand(3), expected)


def test_one_bar_over_all_epochs(
    make_objective: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It counts steps, with the losses of the epoch before; Lightning says nothing itself."""
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    fit(make_objective(progress_bar=True, max_epochs=3))
    shown = capsys.readouterr()
    assert "6/6" in shown.err
    assert "training_loss" in shown.err
    assert "Epoch" not in shown.err + shown.out
    assert not shown.out
