"""The objective: its parts by hand, and what training with it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from stdistill._training.arguments import DEFAULTS
from stdistill._training.sampling import BatchRequest
from stdistill.models.niche import self_distillation, use
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.fit_teacher import train_teacher
from stdistill.models.niche.fitting import Fitted
from stdistill.models.niche.network import NicheNetwork
from stdistill.models.niche.self_distillation import SelfDistillation

NETWORK = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "dropout": 0.1, "head": "prototypes"}


def train(data: Neighborhoods, *, options: dict | None = None, **changes: Any) -> Fitted:
    settings = {
        "k": 3,
        "size": NETWORK,
        "centering": "centering",
        "batch_size": 32,
        "learning_rate": 3e-3,
        "weight_decay": 0.04,
        "seed": 0,
        "n_workers": 0,
        **changes,
    }
    options = {"max_epochs": 4, "accelerator": "cpu", "progress_bar": False} | (options or {})
    given = {name: settings.pop(name) for name in DEFAULTS if name in settings}
    settings["arguments"] = {**DEFAULTS, **given, **options}
    training = settings.pop("training", np.ones(len(data), dtype=bool))
    return train_teacher(data, np.zeros(len(data), dtype=np.int64), training, **settings)


def niches(teacher: Fitted, data: Neighborhoods) -> np.ndarray:
    with torch.inference_mode():
        return teacher.network(data.batch(data.tokens(np.arange(len(data))))).argmax(dim=1).numpy()


def bits(teacher: Fitted) -> list[bytes]:
    return [value.numpy().tobytes() for value in teacher.network.state_dict().values()]


@pytest.fixture
def data(make_neighborhoods: Callable[..., Neighborhoods]) -> Neighborhoods:
    """Three bands of uneven width (a half, three tenths, a fifth), told by the mean of two features in much noise."""
    data = make_neighborhoods(500, extent=800.0)
    x = data.centers[:, 0]
    data.features[:, :2] += 1.5 * np.array([[1, 0], [-1, 1], [0, -1]])[truth(x)]
    return data


def truth(x: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.quantile(x, [0.5, 0.8]), x)


@pytest.fixture
def make_module(
    make_neighborhoods: Callable[..., Neighborhoods], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SelfDistillation]:
    """The objective outside of a Trainer, in one process."""

    def make(k: int = 3, centering: Any = "centering") -> SelfDistillation:
        monkeypatch.setattr(SelfDistillation, "_reduce", lambda self, values, how: values)
        return SelfDistillation(
            NicheNetwork(5, k, **NETWORK),
            make_neighborhoods(50),
            torch.zeros(k, 5),
            centering=centering,
            fitting=np.arange(50),
            arguments={**DEFAULTS, "batch_size": 10, "weight_decay": 0.0},
            fingerprint={},
        )

    return make


def test_centered_targets(make_module: Callable[..., SelfDistillation]) -> None:
    """softmax((cosine - center) / 0.04), Caron et al. 2021, section 3.1."""
    module = make_module()
    module.center.copy_(torch.tensor([0.5, 0.0, -0.5]))
    cosines = np.array([[0.5, 0.02, -0.5], [0.5, 0.0, -0.4]])
    e = np.exp((cosines - [0.5, 0.0, -0.5]) / 0.04)
    expected = e / e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(module._targets(torch.from_numpy(cosines).float()), expected, rtol=1e-4)


def test_sinkhorn_targets_are_of_even_size(make_module: Callable[..., SelfDistillation]) -> None:
    """Against the matrix that alternately normalised columns and rows have."""
    module = make_module(centering="sinkhorn")
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    cosines = 0.1 * noise + torch.tensor([0.2, 0.0, -0.1])
    q = np.exp(cosines.double().numpy() / 0.04)
    for _ in range(3):
        q /= q.sum(axis=0) * 3
        q /= q.sum(axis=1, keepdims=True) * 200
    targets = module._targets(cosines)
    np.testing.assert_allclose(targets, q * 200, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(targets.sum(dim=0), 200 / 3, rtol=0.15)
    uneven = make_module()._targets(cosines).sum(dim=0)
    assert uneven.max() > 2 * uneven.min()


def test_sinkhorn_survives_a_niche_that_nobody_is_near(make_module: Callable[..., SelfDistillation]) -> None:
    cosines = torch.tensor([[1.0, -1.0, -1.0]]).repeat(50, 1)
    assert make_module(centering="sinkhorn")._targets(cosines).isfinite().all()


def test_finds_uneven_niches(data: Neighborhoods) -> None:
    teacher = train(data, options={"max_epochs": 10})
    assert adjusted_rand_score(truth(data.centers[:, 0]), niches(teacher, data)) > 0.8
    history = teacher.history
    assert list(history.index) == list(range(10))
    assert history["training_loss"].iloc[-1] < history["training_loss"].iloc[0]
    assert history["occupied_niches"].eq(3).all()
    assert history["size_entropy"].iloc[-1] < 0.99
    assert history["effective_rank"].iloc[-1] > 1.2
    assert teacher.training == {"n_training_cells": 500, "n_epochs": 10, "share_capped": 0.0}


def test_sinkhorn_is_judged_by_the_niches_not_by_its_targets(
    make_module: Callable[..., SelfDistillation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Targets are of even size though all cells are nearest to one prototype, and would hide that collapse."""
    module = make_module(centering="sinkhorn")
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    cosines = 0.1 * noise + torch.tensor([0.5, 0.0, -0.5])
    monkeypatch.setattr(SelfDistillation, "is_starting", False)
    monkeypatch.setattr(module.teacher.head, "forward", lambda read: cosines)
    module.loss(module.data[BatchRequest(np.arange(50), (0, 0))])
    assert module._targets(cosines).argmax(dim=1).bincount(minlength=3).min() > 10
    measures = module.use.compute()
    assert measures["occupied_niches"] == measures["largest_niche"] == 1


def test_quiet(data: Neighborhoods, capfd: pytest.CaptureFixture, recwarn: pytest.WarningsRecorder) -> None:
    train(data, options={"max_epochs": 1})
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_the_teacher_follows(data: Neighborhoods, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once while the niches start; not at all with a momentum of 1."""
    modules: list[SelfDistillation] = []
    finish = SelfDistillation.finish

    def spy(self: SelfDistillation) -> NicheNetwork:
        modules.append(self)
        return finish(self)

    monkeypatch.setattr(SelfDistillation, "finish", spy)
    monkeypatch.setattr(self_distillation, "START", 1.1)
    train(data, options={"max_epochs": 1})
    monkeypatch.setattr(self_distillation, "START", 0.0)
    monkeypatch.setattr(self_distillation, "TEACHER_MOMENTUM", 1.0)
    train(data, options={"max_epochs": 1})
    pairs = [list(zip(m.teacher.parameters(), m.network.parameters(), strict=True)) for m in modules]
    assert all(torch.equal(slow, fast) for slow, fast in pairs[0])
    assert not any(torch.equal(slow, fast) for slow, fast in pairs[1] if slow.ndim > 1)


def test_only_training_cells_count(data: Neighborhoods) -> None:
    """Cells beyond the neighbourhoods of the training cells change nothing."""
    training = data.centers[:, 0] < 400
    first = train(data, training=training)
    data.features[data.centers[:, 0] > 400 + data.radius_um] = 1000
    assert bits(train(data, training=training)) == bits(first)


def test_same_seed_same_bits(data: Neighborhoods) -> None:
    torch.manual_seed(5)
    first = train(data)
    torch.manual_seed(6)
    second = train(data, n_workers=1)
    assert bits(first) == bits(second)
    assert first.history.equals(second.history)
    assert bits(first) != bits(train(data, seed=1))


def test_half_precision_and_few_steps(data: Neighborhoods) -> None:
    """The history has its row also when training ends within an epoch."""
    history = train(data, options={"max_steps": 5, "precision": "bf16-mixed"}).history
    assert len(history) == 1
    assert history.notna().all(axis=None)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("step", [15, 20])
def test_resume_is_exact(data: Neighborhoods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Killed at the start or in the middle of the second epoch of 15 steps; the niches start for 18 of 60."""
    options = {"max_epochs": 4, "checkpoint_dir": tmp_path / "run"}
    whole = train(data)
    training_step = SelfDistillation.training_step

    def killed(self: SelfDistillation, *batch: Any) -> Any:
        if self.global_step == step:
            raise KilledError
        return training_step(self, *batch)

    monkeypatch.setattr(SelfDistillation, "training_step", killed)
    with pytest.raises(KilledError):
        train(data, options=options)
    monkeypatch.undo()
    resumed = train(data, options=options)
    assert bits(resumed) == bits(whole)
    assert resumed.history.equals(whole.history)


def test_collapse_ends_the_run(data: Neighborhoods, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing centred and no start: the teacher's niches become one, or nearly so."""
    monkeypatch.setattr(self_distillation, "START", 0.0)
    monkeypatch.setattr(self_distillation, "CENTER_MOMENTUM", 1.0)
    monkeypatch.setattr(self_distillation, "TEACHER_MOMENTUM", 0.5)
    with pytest.raises(RuntimeError, match="The niches collapsed in epoch"):
        train(data, options={"max_epochs": 30}, learning_rate=1e-2)


def test_a_collapse_is_seen_in_the_first_epoch(data: Neighborhoods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use, "COLLAPSED", 0.1)
    with pytest.raises(RuntimeError, match="collapsed in epoch 0"):
        train(data)


def test_constant_features(data: Neighborhoods) -> None:
    data.features[:] = 3
    with pytest.raises(ValueError, match="All 500 training cells have the same features"):
        train(data)


def test_one_niche(data: Neighborhoods) -> None:
    assert set(niches(train(data, k=1, options={"max_epochs": 1}), data)) == {0}


TWO_PROCESSES = """
import sys
import numpy as np, torch
sys.path.insert(0, {folder!r})
from test_self_distillation import NETWORK, train
from stdistill.models.niche.batches import Neighborhoods
torch.set_num_threads(1)
data = Neighborhoods(**dict(np.load(sys.argv[1])), radius_um=60.0)
options = {{"devices": 2, "strategy": "ddp", "max_epochs": 3}}
teacher = train(data, batch_size=16, size=NETWORK | {{"dropout": 0.0}}, options=options)
if int(__import__("os").environ.get("LOCAL_RANK", 0)) == 0:
    torch.save(teacher.network.state_dict(), sys.argv[2])
    teacher.history.to_csv(sys.argv[2] + ".csv")
"""


def test_two_processes_train_as_one(data: Neighborhoods, tmp_path: Path) -> None:
    one = train(
        data,
        batch_size=32,
        size=NETWORK | {"dropout": 0.0},
        options={"max_epochs": 3},
    )
    arrays, weights = tmp_path / "data.npz", tmp_path / "weights.pt"
    np.savez(arrays, features=data.features, indptr=data.indptr, indices=data.indices, centers=data.centers)
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES.format(folder=str(Path(__file__).parent)))
    subprocess.run([sys.executable, script, arrays, weights], check=True, capture_output=True)
    two = NicheNetwork(5, 3, **NETWORK).eval()
    two.load_state_dict(torch.load(weights, weights_only=True))
    batch = data.batch(data.tokens(np.arange(500)))
    with torch.inference_mode():
        # Not the weights: attention does not depend on the bias of the keys, so that it drifts with rounding.
        torch.testing.assert_close(two(batch), one.network(batch), rtol=1e-3, atol=2e-2)
    history = np.loadtxt(f"{weights}.csv", delimiter=",", skiprows=1)[:, 1:]
    np.testing.assert_allclose(history, one.history, rtol=1e-3, atol=1e-4)
