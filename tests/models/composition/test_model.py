"""A trained composition model: what it predicts, what it says of itself, and what is read again."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

import stdistill as sd
from stdistill.models.composition.card import CompositionCard
from stdistill.models.composition.model import CompositionModel
from stdistill.models.composition.network import CompositionNetwork
from stdistill.models.composition.rows import FeatureRows

SIZE: dict[str, Any] = {"width": 6, "depth": 2, "dropout": 0.5, "output": "linear"}
FEATURES = [{"feature_key": "X_he", "n_features": 3, "encoder": "texture"}, {"feature_key": "X_scVI", "n_features": 2}]


def make(n_members: int = 3, *, radius_um: float | None = None, **changes: Any) -> CompositionModel:
    """Members that disagree."""
    card = CompositionCard("mlp", ["B", "T"], FEATURES, radius_um, SIZE, n_members, "abundance", [1.0, 2.0])
    torch.manual_seed(0)
    members = [card.build_network() for _ in range(n_members)]
    history = pd.DataFrame({"training_loss": [0.5]}, index=pd.Index([0], name="epoch"))
    return CompositionModel(members, replace(card, **changes), history, np.array([3, 5]))


def rows(n: int = 20, *, with_graph: bool = False) -> FeatureRows:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(n, d)).astype(np.float32) for d in (3, 2)]
    graph = csr_matrix(np.ones((n, n), dtype=np.float32) - np.eye(n, dtype=np.float32)) if with_graph else None
    features[1][4, 1] = np.nan
    return FeatureRows(features, graph)


def test_mean_and_spread_of_the_members() -> None:
    model, places = make(), rows()
    mean, spread = model.predict(places, device="cpu")
    with torch.inference_mode():
        known = np.flatnonzero(places.known)
        each = np.stack([one.abundances(torch.from_numpy(places[known])).numpy() for one in model.members])
    np.testing.assert_allclose(mean[known], each.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(spread[known], each.std(axis=0), rtol=1e-4, atol=1e-6)
    assert spread[known].max() > 0.01
    assert (mean[known] >= 0).all()
    assert np.isnan(mean[4]).all()
    assert np.isnan(spread[4]).all()


def test_one_member_does_not_disagree() -> None:
    _, spread = make(1).predict(rows(), device="cpu")
    assert np.nanmax(spread) == 0


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_change_nothing(batch_size: int) -> None:
    """Not even whose neighbours are in another batch."""
    model, places = make(radius_um=30.0), rows(with_graph=True)
    whole, spread = model.predict(places, device="cpu")
    again = model.predict(places, batch_size=batch_size, device="cpu")
    np.testing.assert_allclose(again[0], whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again[1], spread, rtol=1e-4, atol=1e-6)


def test_some_places() -> None:
    model, places = make(), rows()
    whole, _ = model.predict(places, device="cpu")
    mean, spread = model.predict(places, places=np.array([7, 4, 2]), device="cpu")
    np.testing.assert_allclose(mean[[2, 7]], whole[[2, 7]], rtol=1e-5)
    for each in (mean, spread):
        assert np.flatnonzero(~np.isnan(each[:, 0])).tolist() == [2, 7]


def test_by_slide_each_slide_has_a_mean_and_spread_of_its_own() -> None:
    """Two slides in one call, whose rows alternate, as each by itself; without slides all rows are of one."""
    model, slides = make(standardize="slide"), np.tile([4, 9], 150)
    places = rows(300)
    places.features[0][slides == 9] = places.features[0][slides == 9] * 3 - 5
    mean, spread = model.predict(places, slides=slides, device="cpu")
    for slide in (4, 9):
        own = slides == slide
        alone = FeatureRows([part[own] for part in places.features])
        for found, expected in zip((mean, spread), model.predict(alone, device="cpu"), strict=True):
            np.testing.assert_allclose(found[own], expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(model.predict(places, device="cpu")[0], mean, equal_nan=True)


def test_by_slide_of_all_rows_whichever_are_asked_for() -> None:
    model, places = make(standardize="slide", radius_um=30.0), rows(120, with_graph=True)
    whole, _ = model.predict(places, device="cpu")
    some, _ = model.predict(places, places=np.array([3, 50]), device="cpu")
    np.testing.assert_allclose(some[[3, 50]], whole[[3, 50]], rtol=1e-5)


def test_by_slide_few_rows_are_warned_of() -> None:
    """Of a single row nothing is known but that it is its slide's mean."""
    model = make(standardize="slide")
    places = FeatureRows([part[:1] for part in rows().features])
    with pytest.warns(UserWarning, match="1 of 1 slides have fewer than 100 rows with features, the fewest 1"):
        mean, _ = model.predict(places, device="cpu")
    with torch.inference_mode():
        expected = np.mean([one.abundances(torch.zeros(1, 5)).numpy() for one in model.members], axis=0)
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)


def test_no_row_has_features() -> None:
    """Nothing is said, and nothing is complained of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, spread = make().predict(rows(), places=np.array([4]), device="cpu")
    assert mean.shape == spread.shape == (20, 2)
    assert np.isnan(mean).all()
    assert np.isnan(spread).all()


def test_features_of_another_width() -> None:
    """Also where the model reads neighbourhoods, and the rows come without."""
    with pytest.raises(ValueError, match="There are 5 features per row; the model was trained on 10"):
        make(radius_um=30.0).predict(rows(), device="cpu")


def test_a_device_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: CompositionNetwork, features: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(CompositionNetwork, "abundances", fail)
    with pytest.raises(MemoryError, match="out of memory with batch_size=8: try a smaller one"):
        make().predict(rows(), batch_size=8, device="cpu")


def test_it_does_not_learn_any_more() -> None:
    model = make()
    assert not any(each.requires_grad for each in model.members.parameters())
    assert not model.members.training
    assert repr(model).startswith("CompositionModel: a network that tells 2 cell types from H&E\n")


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = make(images=["ab"], training={"n_training_cells": 9})
    model.save(tmp_path / "model")
    again = sd.models.CompositionModel.load(tmp_path / "model")
    assert again.card == model.card
    assert again.sha256 == model.sha256
    assert again.seen is not None
    assert again.seen.tolist() == [3, 5]
    pd.testing.assert_frame_equal(again.history, model.history)
    np.testing.assert_array_equal(again.predict(rows(), device="cpu")[0], model.predict(rows(), device="cpu")[0])


def test_saved_by_slide(tmp_path: Path) -> None:
    model, places = make(standardize="slide"), rows(150)
    model.save(tmp_path / "model")
    again = sd.models.CompositionModel.load(tmp_path / "model")
    assert again.card.standardize == "slide"
    for found, expected in zip(again.predict(places), model.predict(places), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (
        again.describe().sections["Reads"][-1]
        == "features by the mean and spread of the slide, which is predicted whole"
    )
    assert not any("mean and spread" in text for text in make().describe().sections["Reads"])
    with pytest.raises(ValueError, match="standardize"):
        replace(model.card, standardize="row")


def test_weights_of_another_number_of_members(tmp_path: Path) -> None:
    model = make(3)
    model.card = replace(model.card, n_members=2)
    model.save(tmp_path / "model")
    with pytest.raises(
        ValueError, match=r"(?s)model\.safetensors does not fit the card: 10 tensors differ.*the card asks for none"
    ):
        sd.models.load(tmp_path / "model")


def test_the_card_counts_what_the_networks_read() -> None:
    card = make().card
    assert [each.feature_key for each in card.inputs] == ["X_he", "X_scVI"]
    assert card.inputs[0].encoder == "texture"
    assert card.inputs[1].encoder is None
    assert (card.n_features, replace(card, radius_um=40.0).n_features) == (5, 10)
    assert replace(card, radius_um=40.0).build_network().mean.shape == (10,)
