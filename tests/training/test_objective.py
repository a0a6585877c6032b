"""A new objective is a network, a loss and a file: the toy below is trained, killed, resumed, saved and loaded."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import stdistill as sd
from stdistill._training.arguments import DEFAULTS, TrainingArguments
from stdistill._training.fingerprint import fingerprint_run
from stdistill._training.objective import Objective
from stdistill._training.sampling import BatchRequest
from stdistill._training.trainer import fit, seeded
from stdistill.models.saved import Card, SavedModel
from stdistill.models.sharing.description import Description

# A linear probe on the class token, whole.


class Tokens(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, tokens: Tensor, labels: Tensor) -> None:
        self.tokens, self.labels = tokens, labels

    def __getitem__(self, request: BatchRequest) -> tuple[Tensor, Tensor]:
        return self.tokens[request.rows], self.labels[request.rows]


class Probe(Objective):
    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        tokens, labels = batch
        return functional.cross_entropy(self.network(tokens), labels), len(labels)


@dataclass(frozen=True)
class ProbeCard(Card):
    width: int
    n_labels: int


class ProbeModel(SavedModel):
    kind: ClassVar[str] = "toy probe"
    card_type: ClassVar[type[ProbeCard]] = ProbeCard

    def __init__(self, network: nn.Module, card: ProbeCard, history: pd.DataFrame) -> None:
        self.network, self.card, self.history = network, card, history

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    def describe(self) -> Description:
        return Description(title="a toy probe", purpose="To be tried.", sections={}, use="model(features)")

    @classmethod
    def restore(cls, card: ProbeCard, weights: dict[str, Tensor], history: pd.DataFrame) -> Self:
        network = nn.Linear(card.width, card.n_labels)
        network.load_state_dict(weights)
        return cls(network, card, history)


def train_probe(tokens: Tensor, labels: Tensor, rows: Any, validation: Any, arguments: TrainingArguments) -> ProbeModel:
    card = ProbeCard(tokens.shape[1], int(labels.max()) + 1)
    with seeded(arguments["seed"]):
        network = nn.Linear(card.width, card.n_labels)
    facts = fingerprint_run(arguments, n_rows=len(rows), first=float(tokens[0, 0]))
    objective = Probe(network, Tokens(tokens, labels), rows, arguments, facts, validation=validation)
    history = fit(objective, patience=5)
    return ProbeModel(network.requires_grad_(False), card, history)


# What is to be held by it.


STORED = Path(__file__).parents[1] / "stored"
ARGUMENTS: TrainingArguments = {
    **DEFAULTS,
    "batch_size": 32,
    "learning_rate": 0.05,
    "max_epochs": 30,
    "accelerator": "cpu",
    "progress_bar": False,
}


@pytest.fixture(scope="module")
def class_tokens() -> tuple[torch.Tensor, torch.Tensor]:
    """What a stored student reads of 300 neighbourhoods, and which third of the slide they are in."""
    expected = np.load(STORED / "expected.npz")
    model = sd.models.NicheModel.load(STORED / "student")
    from scipy.spatial import cKDTree

    from stdistill.models.niche.batches import Neighborhoods

    tree = cKDTree(expected["spatial"])
    around = [sorted(set(found) - {i}) for i, found in enumerate(tree.query_ball_point(tree.data, model.radius_um))]
    pointer = np.cumsum([0, *map(len, around)])
    data = Neighborhoods(expected["X_he"], pointer, np.concatenate(around), tree.data, model.radius_um)
    with torch.inference_mode():
        tokens = model.network.embed(data.batch(data.tokens(np.arange(300))))
    return tokens.clone(), torch.from_numpy((expected["spatial"][:, 0] // 100).astype(np.int64))


def probe(class_tokens: tuple[torch.Tensor, torch.Tensor], **changes: Any) -> ProbeModel:
    arguments: TrainingArguments = {**ARGUMENTS, **changes}  # type: ignore[typeddict-item]
    return train_probe(*class_tokens, np.arange(0, 240), np.arange(240, 300), arguments)


def bits(model: ProbeModel) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in model.weights.values()]


def test_it_learns(class_tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = probe(class_tokens)
    tokens, labels = class_tokens
    assert (model.network(tokens[240:]).argmax(dim=1) == labels[240:]).float().mean() > 0.8
    assert set(model.history.columns) == {"training_loss", "validation_loss"}


def test_it_is_saved_and_loaded(class_tokens: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    model = probe(class_tokens, max_epochs=2)
    model.save(tmp_path / "probe")
    loaded = ProbeModel.load(tmp_path / "probe")
    assert bits(loaded) == bits(model)
    assert (loaded.card, loaded.sha256) == (model.card, model.sha256)
    with pytest.raises(ValueError, match="kind 'toy probe', expected 'niche'"):
        sd.models.NicheModel.load(tmp_path / "probe")
    known = "'alignment', 'niche', 'composition', 'expression'"
    with pytest.raises(ValueError, match=f"kind 'toy probe'; this stdistill knows {known}"):
        sd.models.load(tmp_path / "probe")


def test_it_goes_on_after_a_kill(class_tokens: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    """To the bits of a run that was not disturbed."""
    undisturbed = probe(class_tokens)
    torch.save(class_tokens, tmp_path / "tokens.pt")
    command = [sys.executable, __file__, str(tmp_path / "tokens.pt"), str(tmp_path / "kept")]
    checkpoint = tmp_path / "kept" / "resume.ckpt"
    with subprocess.Popen(command) as process:
        for _ in range(600):
            if checkpoint.is_file():
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert bits(probe(class_tokens, checkpoint_dir=tmp_path / "kept")) == bits(undisturbed)
    with pytest.raises(ValueError, match=r"The checkpoint is of another run \(training:"):
        probe(class_tokens, checkpoint_dir=tmp_path / "kept", learning_rate=0.1)


def train_slowly(tokens: str, folder: str) -> None:
    """In a process that is to be killed."""
    start = Probe.on_train_epoch_start

    def wait(self: Probe) -> None:
        start(self)
        time.sleep(0.2)

    Probe.on_train_epoch_start = wait  # type: ignore[method-assign]
    probe(torch.load(tokens, weights_only=True), checkpoint_dir=folder)


if __name__ == "__main__":
    train_slowly(*sys.argv[1:])
