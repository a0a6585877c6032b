"""Training a student: what it learns, and that runs repeat, resume and spread over processes."""

from __future__ import annotations

import copy
import logging
import math
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stdistill._training.arguments import DEFAULTS
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.distillation import Distillation
from stdistill.models.niche.fit_student import train_student
from stdistill.models.niche.fitting import Fitted, fingerprint_niches
from stdistill.models.niche.network import NicheNetwork

NETWORK = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "dropout": 0.1, "head": "linear"}


def train(data: Neighborhoods, targets: np.ndarray, *, options: dict | None = None, **changes: Any) -> Fitted:
    settings = {
        "k": 3,
        "size": NETWORK,
        "temperature": None,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "weight_decay": 0.05,
        "patience": None,
        "seed": 0,
        "n_workers": 0,
        **changes,
    }
    options = {"max_epochs": 3, "accelerator": "cpu", "progress_bar": False} | (options or {})
    given = {name: settings.pop(name) for name in DEFAULTS if name in settings}
    settings["arguments"] = {**DEFAULTS, **given, **options}
    libraries = np.zeros(len(data), dtype=np.int64)
    training = settings.pop("training", np.ones(len(data), dtype=bool))
    return train_student(data, libraries, targets, training, **settings)


def no_step(*_: Any) -> None:
    pytest.fail("a complete run was trained further")


def bits(student: Fitted) -> list[bytes]:
    return [value.numpy().tobytes() for value in student.network.state_dict().values()]


@pytest.fixture
def data(make_neighborhoods: Callable[..., Neighborhoods]) -> Neighborhoods:
    """Features tell where a cell is, in some noise."""
    data = make_neighborhoods(300)
    data.features[:, 0] += data.centers[:, 0] / 50
    return data


@pytest.fixture
def logits(data: Neighborhoods) -> np.ndarray:
    """Three bands of tissue, a soft border between them."""
    bands = np.array([50.0, 150.0, 300.0])
    return -(np.abs(data.centers[:, :1] - bands) / 30).astype(np.float32)


def test_learns_soft_niches(data: Neighborhoods, logits: np.ndarray) -> None:
    student = train(data, logits, options={"max_epochs": 12})
    with torch.inference_mode():
        found = student.network(data.batch(data.tokens(np.arange(300)))).numpy()
    assert (found.argmax(axis=1) == logits.argmax(axis=1)).mean() > 0.9
    assert student.history["training_loss"].iloc[-1] < 0.3 * student.history["training_loss"].iloc[0]
    assert student.temperature is not None


def test_scale_of_the_teacher(data: Neighborhoods, logits: np.ndarray) -> None:
    """Logits of a hundredth of the scale teach the same, at a hundredth of the temperature, to the same niches."""
    large, small = train(data, logits), train(data, logits / 100)
    assert small.temperature == pytest.approx(large.temperature / 100, rel=0.01)
    with torch.inference_mode():
        batch = data.batch(data.tokens(np.arange(300)))
        np.testing.assert_allclose(100 * small.network(batch), large.network(batch), atol=0.15)


def test_learns_labels(data: Neighborhoods, logits: np.ndarray) -> None:
    labels = logits.argmax(axis=1).astype(np.int64)
    labels[::5] = -1
    student = train(data, labels, training=labels >= 0, options={"max_epochs": 12})
    assert student.temperature is None
    with torch.inference_mode():
        found = student.network(data.batch(data.tokens(np.arange(0, 300, 5)))).argmax(dim=1).numpy()
    assert (found == logits.argmax(axis=1)[::5]).mean() > 0.85


def test_same_seed_same_bits(data: Neighborhoods, logits: np.ndarray) -> None:
    torch.manual_seed(5)
    first = train(data, logits)
    torch.manual_seed(6)
    second = train(data, logits, n_workers=1)
    assert bits(first) == bits(second)
    assert first.history.equals(second.history)
    assert bits(first) != bits(train(data, logits, seed=1))


def test_global_state_is_left_alone(data: Neighborhoods, logits: np.ndarray, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    level = logging.getLogger("lightning.pytorch").level
    train(data, logits)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    assert logging.getLogger("lightning.pytorch").level == level
    assert list(tmp_path.iterdir()) == []


def test_quiet(data: Neighborhoods, logits: np.ndarray, capfd: pytest.CaptureFixture, recwarn: Any) -> None:
    train(data, logits)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_one_progress_bar(
    data: Neighborhoods, logits: np.ndarray, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(data, logits, options={"progress_bar": True})
    error = capfd.readouterr().err
    assert "27/27" in error
    assert "training_loss" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("step", [9, 13])
def test_resume_is_exact(
    data: Neighborhoods, logits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A process killed at the start or in the middle of the second epoch of 9 steps; dropout on."""
    options = {"max_epochs": 4, "checkpoint_dir": tmp_path / "run"}
    whole = train(data, logits, options={"max_epochs": 4})
    training_step = Distillation.training_step

    def killed(self: Distillation, *batch: Any) -> Any:
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return training_step(self, *batch)

    monkeypatch.setattr(Distillation, "training_step", killed)
    process = multiprocessing.get_context("fork").Process(
        target=train, args=(data, logits), kwargs={"options": options}
    )
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["resume.ckpt"]
    with pytest.raises(ValueError, match=r"of another run \(training"):
        train(data, logits, options=options, learning_rate=1e-4)
    with pytest.raises(ValueError, match=r"of another run \(precision: '32-true', now 'bf16-mixed'\)"):
        train(data, logits, options=options | {"precision": "bf16-mixed"})
    resumed = train(data, logits, options=options)
    assert bits(resumed) == bits(whole)
    assert resumed.history.equals(whole.history)


def test_divergence_is_an_error(data: Neighborhoods, logits: np.ndarray) -> None:
    with pytest.raises(RuntimeError, match=r"diverged: the loss is nan.*Lower the learning_rate"):
        train(data, logits, learning_rate=1e30)


def test_checkpoint_of_other_neighbourhoods(data: Neighborhoods, logits: np.ndarray) -> None:
    def fingerprint(data: Neighborhoods) -> dict[str, Any]:
        network = NicheNetwork(5, 3, **NETWORK)
        return fingerprint_niches(data, network, NETWORK, logits, {**DEFAULTS, "max_epochs": 1})

    before = fingerprint(data)
    assert before == fingerprint(data)
    for change in ({"max_tokens": 5}, {"radius_um": 50.0}, {"indices": data.indices[::-1].copy()}):
        other = copy.copy(data)
        vars(other).update(change)
        found = fingerprint(other)
        assert [key for key in before if before[key] != found[key]] == ["neighborhoods"]


def test_early_stopping_keeps_the_best_epoch(make_neighborhoods: Callable) -> None:
    """Noise cannot be learned: the first epochs are the best on held-out blocks."""
    data = make_neighborhoods(600, extent=1500.0)
    noise = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    student = train(data, noise, patience=2, options={"max_epochs": 30}, learning_rate=1e-2)
    losses = student.history["validation_loss"]
    assert len(losses) < 30
    assert losses.idxmin() == len(losses) - 3
    assert student.training["n_validation_cells"] > 20
    assert student.training["n_epochs"] == len(losses)
    again = train(data, noise, patience=2, options={"max_epochs": 30}, learning_rate=1e-2)
    assert bits(again) == bits(student)


def test_steps_of_a_cut_epoch_count(make_neighborhoods: Callable) -> None:
    """Training that ends within an epoch is judged, and kept if it was good."""
    data = make_neighborhoods(600, extent=1500.0)
    data.features[:, 0] += data.centers[:, 0] / 250
    logits = -(np.abs(data.centers[:, :1] - np.array([250.0, 750.0, 1500.0])) / 100).astype(np.float32)

    def after(n_steps: int) -> Fitted:
        return train(data, logits, patience=3, options={"max_steps": n_steps})

    n_fitted = 600 - after(1).training["n_validation_cells"]
    epoch = math.ceil(n_fitted / 32)
    cut = after(epoch + 4)
    assert cut.history["validation_loss"].is_monotonic_decreasing
    assert cut.history["validation_loss"].nunique() == 2
    assert bits(cut) != bits(after(epoch))


@pytest.mark.parametrize("options", [{"max_epochs": 30}, {"max_epochs": 2}, {"max_steps": 5}])
def test_a_complete_run_trains_no_further(
    make_neighborhoods: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, int]
) -> None:
    """Killed after its last step, be it by early stopping or by the number of epochs or steps."""
    data = make_neighborhoods(600, extent=1500.0)
    noise = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    run = partial(train, data, noise, patience=2, options={**options, "checkpoint_dir": tmp_path}, learning_rate=1e-2)
    complete = run()
    monkeypatch.setattr(Distillation, "training_step", no_step)
    again = run()
    assert bits(again) == bits(complete)
    assert again.history.equals(complete.history)
    assert again.training == complete.training


def test_cap_is_logged(data: Neighborhoods, logits: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    data.max_tokens = 5
    with caplog.at_level(logging.INFO, logger="stdistill"):
        student = train(data, logits, options={"max_epochs": 1})
    assert 0 < student.training["share_capped"] <= 1
    assert "max_tokens=5 cuts the neighbourhoods of" in caplog.text


TWO_PROCESSES = """
import sys
import numpy as np, torch
sys.path.insert(0, {folder!r})
from test_fit_student import NETWORK, train
from stdistill.models.niche.batches import Neighborhoods
torch.set_num_threads(1)
arrays = dict(np.load(sys.argv[1]))
logits = arrays.pop("logits")
data = Neighborhoods(**arrays, radius_um=60.0)
options = {{"devices": 2, "strategy": "ddp"}}
student = train(data, logits, batch_size=16, size=NETWORK | {{"dropout": 0.0}}, options=options, patience=5)
if int(__import__("os").environ.get("LOCAL_RANK", 0)) == 0:
    torch.save(student.network.state_dict(), sys.argv[2])
    student.history.to_csv(sys.argv[2] + ".csv")
"""


def test_two_processes_train_as_one(make_neighborhoods: Callable, tmp_path: Path) -> None:
    data = make_neighborhoods(600, extent=1500.0)
    logits = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    arrays = {name: getattr(data, name) for name in ("features", "indptr", "indices", "centers")}
    np.savez(tmp_path / "data.npz", logits=logits, **arrays)
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES.format(folder=str(Path(__file__).parent)))
    command = [sys.executable, str(script), str(tmp_path / "data.npz"), str(tmp_path / "weights")]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300)
    alone = train(data, logits, batch_size=32, size=NETWORK | {"dropout": 0.0}, patience=5)
    found = torch.load(tmp_path / "weights", weights_only=True)
    for name, expected in alone.network.state_dict().items():
        torch.testing.assert_close(found[name], expected, atol=2e-4, rtol=2e-3, msg=name)
    history = np.genfromtxt(tmp_path / "weights.csv", delimiter=",", names=True)
    for column in alone.history:
        np.testing.assert_allclose(history[column], alone.history[column], rtol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "train.py", "weights", "weights.csv"]
