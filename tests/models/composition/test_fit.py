"""Fitting on arrays: against scikit-learn, members and their folds, the scale, what is wrong, and going on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

from stdistill.models.composition import fit as module
from stdistill.models.composition.arguments import COMPOSITION_DEFAULTS
from stdistill.models.composition.fit import FittedComposition, fit_composition
from stdistill.models.composition.folds import Tissue
from stdistill.models.composition.model import predict_members
from stdistill.models.composition.regression import Regression
from stdistill.models.composition.rows import FeatureRows

N = 240
GROUPS = np.arange(N) % 4
FAST: dict[str, Any] = {
    **COMPOSITION_DEFAULTS,
    "width": 16,
    "depth": 2,
    "n_members": 2,
    "learning_rate": 1e-2,
    "max_epochs": 3,
    "accelerator": "cpu",
    "progress_bar": False,
}


LOSSES = pd.DataFrame({"training_loss": [1.0], "validation_loss": [1.0]}).rename_axis("epoch")


def places(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of very different scales, and abundances that follow from them; of the last type there is always 4."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(N, 3))
    features = (causes * [1, 100, 0.01] + [5, 0, -3]).astype(np.float32)
    abundances = np.stack([10 + 2 * causes[:, 0], 3 + causes[:, 1] - causes[:, 2], np.full(N, 4.0)], axis=1)
    return features, (abundances + rng.normal(0, 0.1, (N, 3)) * [1, 1, 0]).clip(0).astype(np.float32)


def no_tissue() -> Tissue:
    raise AssertionError("asked for")


def fit(
    features: np.ndarray,
    targets: np.ndarray,
    training: np.ndarray | None = None,
    *,
    tissue: Callable[[], Tissue] = no_tissue,
    groups: np.ndarray = GROUPS,
    **changes: Any,
) -> FittedComposition:
    chosen = np.ones(N, dtype=bool) if training is None else training
    arguments: Any = FAST | changes
    return fit_composition(FeatureRows([features]), targets, chosen, [groups], tissue, arguments)


def predict(fitted: FittedComposition, features: np.ndarray) -> np.ndarray:
    return predict_members(fitted.members, FeatureRows([features]), np.arange(len(features)), device="cpu")[0]


def bits(fitted: FittedComposition) -> list[bytes]:
    return [value.numpy().tobytes() for member in fitted.members for value in member.state_dict().values()]


def test_ridge_is_that_of_scikit_learn() -> None:
    """On standardised features and types, brought back; rows that are not for training have no part."""
    features, targets = places()
    training = np.arange(N) < 180
    fitted = fit(features, targets, training, method="ridge")
    mean, std = features[training].mean(axis=0), features[training].std(axis=0)
    spread = np.where(np.ptp(targets[training], axis=0) > 0, targets[training].std(axis=0), 1)
    scaled = (targets - targets[training].mean(axis=0)) / spread
    model = Ridge(fitted.training["penalty"]).fit((features[training] - mean) / std, scaled[training])
    expected = model.predict((features - mean) / std) * spread + targets[training].mean(axis=0)
    np.testing.assert_allclose(predict(fitted, features), expected.clip(0), rtol=1e-3, atol=1e-3)
    assert fitted.training["n_training_cells"] == 180
    assert len(fitted.members) == 1
    assert fitted.history.empty
    targets[180:], features[180:] = 0, 9
    assert bits(fit(features, targets, training, method="ridge")) == bits(fitted)


def test_networks_learn() -> None:
    """Groups that were left out are predicted, each type on its own scale, and the constant one as what it is."""
    features, targets = places()
    training = GROUPS != 3
    fitted = fit(features, targets, training, max_epochs=60)
    found = predict(fitted, features)[~training]
    error = ((found - targets[~training]) ** 2).mean(axis=0)
    assert (error[:2] < 0.1 * targets[:, :2].var(axis=0)).all()
    np.testing.assert_allclose(found[:, 2], 4, rtol=1e-5)


@pytest.mark.parametrize("output", ["linear", "softmax"])
def test_networks_and_ridge_are_averaged(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the scale of the training; shares are of the networks alone."""
    features, targets = places()
    targets /= targets.sum(axis=1, keepdims=True)
    alone: list[torch.Tensor] = []
    given = torch.from_numpy(features)

    def watch(objective: Regression, *, patience: int = 0, n_epochs: int = 0) -> pd.DataFrame:
        if n_epochs:
            alone.append(objective.network(given))  # type: ignore[operator]
        return LOSSES

    monkeypatch.setattr(module, "fit", watch)
    [ridge] = fit(features, targets, method="ridge").members
    for member, layers in zip(fit(features, targets, output=output).members, alone, strict=True):
        expected = (2 * layers + ridge(given)) / 3 if output == "linear" else layers
        torch.testing.assert_close(member(given), expected)


def test_each_member_has_a_seed_and_a_fold_of_its_own() -> None:
    """As many folds as groups: the third member has that of the first again, and other weights."""
    features, targets = places()
    asked: list[Regression] = []

    def watch(objective: Regression, *, patience: int = 0, n_epochs: int = 0) -> pd.DataFrame:
        if patience:
            asked.append(objective)
        return LOSSES

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit", watch)
        fitted = fit(features, targets, groups=GROUPS // 2, n_members=3, seed=5)
    held_out = [np.unique(GROUPS[each.validation] // 2).tolist() for each in asked]
    assert held_out[0] != held_out[1]
    assert held_out[0] == held_out[2]
    for each in asked:
        assert not np.intersect1d(each.fitting, each.validation).size
        assert len(each.fitting) + len(each.validation) == N
    assert [each.arguments["seed"] for each in asked] == [5, 6, 7]
    first, _, third = (each.layers[0].weight for each in fitted.members)
    assert not torch.equal(first, third)  # type: ignore[arg-type]


def test_all_rows_are_learned_from_for_as_long_as_was_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anew, from the weights at which the network began that was stopped, which itself is not kept."""
    features, targets = places()
    stopped: list[Regression] = []
    learned: list[tuple[Regression, int]] = []

    def watch(objective: Regression, *, patience: int = 0, n_epochs: int = 0) -> pd.DataFrame:
        if n_epochs:
            learned.append((objective, n_epochs))
            losses = {"training_loss": np.ones(n_epochs)}
        else:
            stopped.append(objective)
            losses = {"training_loss": np.ones(4), "validation_loss": np.array([4.0, 2.0, np.nan, 2.0])}
            losses["validation_loss"][0] -= 3 * len(stopped[1:])  # the second is best at once
        return pd.DataFrame(losses).rename_axis("epoch")

    monkeypatch.setattr(module, "fit", watch)
    fitted = fit(features, targets, output="softmax")
    assert [n_epochs for _, n_epochs in learned] == [2, 1]
    for before, (after, _), member in zip(stopped, learned, fitted.members, strict=True):
        assert after.fitting.tolist() == list(range(N))
        assert not len(after.validation)
        assert torch.equal(before.network.layers[0].weight, member.layers[0].weight)  # type: ignore[arg-type, union-attr, index]
        assert after.network is member
    assert fitted.training == {"n_training_cells": N, "n_epochs": [2, 1]}
    assert fitted.history["member"].tolist() == [0] * 6 + [1] * 5
    assert fitted.history["all_rows"].tolist() == [False] * 4 + [True] * 2 + [False] * 4 + [True]


@pytest.mark.parametrize(("seen", "expected"), [(100, 5), (12_000, 50), (10**9, 200)])
def test_small_trainings_train_for_more_epochs(seen: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Regression] = []
    monkeypatch.setattr(module, "ROWS_SEEN", seen)
    monkeypatch.setattr(module, "fit", lambda objective, **until: asked.append(objective) or LOSSES)
    fit(*places(), max_epochs=None)
    assert [each.arguments["max_epochs"] for each in asked] == [expected] * 4


def test_the_same_seed_gives_the_same_bits() -> None:
    features, targets = places()
    first = fit(features, targets)
    assert bits(fit(features, targets)) == bits(first)
    assert bits(fit(features, targets, seed=1)) != bits(first)


@pytest.mark.parametrize("n_rows", [180, N], ids=["held out", "all rows"])
def test_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    """In its second member, to the bits of a run that was not disturbed; what was done is not trained again."""
    features, targets = places()
    whole = fit(features, targets)
    assert whole.training["n_epochs"] == [3, 3]
    step = Regression.training_step

    def killed(self: Regression, batch: Any, batch_idx: int) -> Any:
        if self.arguments["seed"] == 1 and len(self.fitting) == n_rows and self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Regression, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(features, targets, checkpoint_dir=tmp_path)
    trained: list[tuple[int, int, int]] = []

    def watched(self: Regression, batch: Any, batch_idx: int) -> Any:
        trained.append((self.arguments["seed"], len(self.fitting), self.current_epoch))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Regression, "training_step", watched)
    resumed = fit(features, targets, checkpoint_dir=tmp_path)
    assert bits(resumed) == bits(whole)
    left = [(1, rows, epoch) for rows in (180, N) for epoch in range(3)]
    assert sorted(set(trained)) == left[left.index((1, n_rows, 1)) :]
    pd.testing.assert_frame_equal(resumed.history, whole.history)


@pytest.mark.parametrize("change", ["features", "targets", "rows", "groups", "mae_weight", "width", "patience"])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: str) -> None:
    features, targets = places()
    how: dict[str, Any] = {"checkpoint_dir": tmp_path, "n_members": 1, "max_epochs": 1}
    fit(features, targets, **how)
    training, groups = np.ones(N, dtype=bool), GROUPS
    if change == "features":
        features[7, 0] += 1e-3
    elif change == "targets":
        targets[7, 0] += 1e-3
    elif change == "rows":
        training[7] = False
    elif change == "groups":
        groups = np.arange(N) // 60
    else:
        how |= {change: {"mae_weight": 0.1, "width": 8, "patience": 3}[change]}
    with pytest.raises(ValueError, match="checkpoint is of another run"):
        fit(features, targets, training, groups=groups, **how)


def test_what_cannot_be_learned_from_is_refused() -> None:
    features, targets = places()
    with pytest.raises(ValueError, match="Each type is equally abundant in all of the 240 training rows"):
        fit(features, np.full_like(targets, 2))
    with pytest.raises(ValueError, match="All 240 training rows have the same features: nothing can be told from them"):
        fit(np.ones_like(features), targets)


def test_shares_are_learned_as_shares() -> None:
    """A type that is nowhere in the training has none."""
    features, targets = places()
    targets[:, 2] = 0
    shares = targets / targets.sum(axis=1, keepdims=True)
    found = predict(fit(features, shares, output="softmax", max_epochs=20), features)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert (found[:, 2] == 0).all()
    assert np.corrcoef(found[:, 0], shares[:, 0])[0, 1] > 0.9
