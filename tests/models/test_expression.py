"""scVI on arrays of counts: what it is fitted to, what is held out, and what a model refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

import stdistill as sd
from stdistill.models.expression import MIN_CELLS, ExpressionModel, _default_epochs, _hold_out, train

GENES = [f"gene-{i}" for i in range(12)]
N = 80


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    kinds = rng.gamma(1.0, 3.0, (2, 12))[np.arange(N) % 2]
    return rng.poisson(kinds).astype(np.float32)


def fit(counts: Any, cells: Any = None, libraries: Any = None, **changes: Any) -> ExpressionModel:
    how: dict[str, Any] = {"n_latent": 3, "max_epochs": 2, "batch_size": 32, "seed": 0}
    how |= {"accelerator": "cpu", "devices": 1}
    slides = pd.Series(["a"] * counts.shape[0] if libraries is None else libraries)
    return train(counts, GENES, slides, np.arange(counts.shape[0]) if cells is None else cells, **how | changes)


@pytest.fixture(scope="module")
def model(counts: np.ndarray) -> ExpressionModel:
    return fit(counts, np.arange(60), ["b"] * 30 + ["a"] * 50)


@pytest.mark.parametrize("n", [10, 11, 36, 100, 143, 1000])
def test_a_tenth_is_held_out(n: int) -> None:
    """And a bit more, where the last batch would be too small for batch normalisation."""
    cells = np.arange(n) * 3 + 1
    fitted, held_out = _hold_out(cells, 32, seed=0)
    assert sorted([*fitted, *held_out]) == cells.tolist()
    wanted = math.ceil(0.9 * n)
    assert wanted - 2 <= len(fitted) <= wanted
    assert len(fitted) % 32 == 0 or len(fitted) % 32 >= 3
    again, other = (_hold_out(cells, 32, seed=seed)[1] for seed in (0, 1))
    np.testing.assert_array_equal(again, held_out)
    assert n < 30 or set(other) != set(held_out)


@pytest.mark.parametrize(("n", "expected"), [(10, 400), (20_000, 400), (40_000, 200), (1_000_000, 8), (10**8, 1)])
def test_small_slides_train_for_more_epochs(n: int, expected: int) -> None:
    assert _default_epochs(n) == expected


def test_training_ends_when_the_held_out_loss_is_flat(counts: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default; of epochs that were asked for all are trained."""
    monkeypatch.setattr("stdistill.models.expression.PATIENCE", 1)
    model = fit(counts, max_epochs=None)
    training = model.card.training
    assert training["max_epochs"] == 400
    assert training["n_epochs"] == len(model.history) < 200
    assert np.isfinite(training["elbo_validation"])
    pd.testing.assert_frame_equal(fit(counts, max_epochs=None).history, model.history)
    asked = fit(counts, max_epochs=training["n_epochs"] + 3)
    assert len(asked.history) == training["n_epochs"] + 3


def test_what_a_model_says_of_itself(model: ExpressionModel) -> None:
    assert model.card.genes == GENES
    assert model.card.libraries == ["a", "b"]
    assert model.card.n_latent == 3
    assert model.card.training["n_training_cells"] == 60
    assert model.history.index.tolist() == [0, 1]
    assert np.isfinite(model.card.training["elbo_validation"])
    assert {"stdistill", "scvi-tools", "torch"} == set(model.card.versions)


def test_the_latent_of_any_form_of_counts(model: ExpressionModel, counts: np.ndarray) -> None:
    """Of cells together or one by one, in any order."""
    whole = model.encode(counts)
    assert whole.shape == (N, 3)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(model.encode(csr_matrix(counts)), whole)
    order = np.random.default_rng(1).permutation(N)[:20]
    np.testing.assert_allclose(model.encode(counts[order]), whole[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.encode(counts[5:6]), whole[5:6], rtol=1e-4, atol=1e-5)


def test_cells_that_are_not_for_training_have_no_part(model: ExpressionModel, counts: np.ndarray) -> None:
    other = counts.copy()
    other[60:] = 1000
    again = fit(other, np.arange(60), ["b"] * 30 + ["a"] * 50)
    assert again.sha256 == model.sha256
    changed = fit(counts, np.arange(60), ["b"] * 30 + ["a"] * 50, seed=1)
    assert changed.sha256 != model.sha256


def test_slides_without_training_cells(counts: np.ndarray) -> None:
    """The decoder does not know them, and the encoder does not see which slide a cell is from."""
    alone = fit(counts, np.arange(40), ["a"] * 40 + ["z"] * 40)
    assert alone.card.libraries == ["a"]
    assert np.isfinite(alone.encode(counts)).all()


def test_too_few_cells(counts: np.ndarray) -> None:
    message = f"There are {MIN_CELLS - 1} cells to train on, and scVI needs at least {MIN_CELLS}"
    with pytest.raises(ValueError, match=message):
        fit(counts, np.arange(MIN_CELLS - 1))


def test_what_is_the_users_stays_as_it_was(counts: np.ndarray) -> None:
    """Random numbers, the counts, and the threads of torch."""

    def state() -> tuple[Any, ...]:
        generator = np.random.get_state()[1].tolist()  # noqa: NPY002 (the global one, which scVI draws from)
        return torch.get_rng_state().tolist(), generator, torch.get_num_threads()

    before, expected = counts.copy(), state()
    fit(counts, max_epochs=1).encode(counts)
    assert state() == expected
    np.testing.assert_array_equal(counts, before)


def test_saved_and_loaded(model: ExpressionModel, counts: np.ndarray, tmp_path: Path) -> None:
    model.seen = np.array([1, 5])
    model.save(tmp_path / "model")
    again = sd.models.load(tmp_path / "model")
    assert isinstance(again, ExpressionModel)
    assert again.card == model.card
    assert again.seen is not None
    assert again.seen.tolist() == [1, 5]
    assert not any(name == "seen_cells" for name in again._weights)
    np.testing.assert_array_equal(again.encode(counts), model.encode(counts))
    pd.testing.assert_frame_equal(again.history, model.history)


@pytest.mark.parametrize(
    "change", [{"genes": GENES[:5]}, {"n_latent": 7}, {"libraries": ["a", "b", "c"]}], ids=["genes", "latent", "slides"]
)
def test_a_card_of_other_weights(model: ExpressionModel, change: dict[str, Any], tmp_path: Path) -> None:
    """It is found out when the model is loaded, not when an hour of cells has been read."""
    ExpressionModel(replace(model.card, **change), model.weights, model.history).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit the card"):
        sd.models.load(tmp_path / "model")
