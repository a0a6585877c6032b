"""A trained alignment: what it embeds, of which tiles and cells, and what is read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import stdistill as sd
from stdistill.models.alignment.card import AlignmentCard
from stdistill.models.alignment.model import AlignmentModel
from stdistill.models.alignment.network import AlignmentNetwork
from stdistill.models.alignment.tiles import CellGraphs

NETWORK: dict[str, Any] = {
    "width": 8,
    "hidden": 7,
    "n_dims": 5,
    "edges": "stochastic",
    "edge_temperature": 0.5,
    "dropout": 0.5,
    "temperature": 0.1,
}
SCALES = ("micro", "meso", "macro")


def model_of(*scales: str, edges: str = "stochastic", **entries: Any) -> AlignmentModel:
    he = {scale: {"feature_key": f"X_he_{scale}", "n_features": 8, "encoder": "texture"} for scale in scales or SCALES}
    cells = {"feature_key": "X_scVI", "n_features": 6}
    card = AlignmentCard(he, cells, 128.0, 20.0, 5000, NETWORK | {"edges": edges}, **entries)
    torch.manual_seed(0)
    history = pd.DataFrame({"training_loss": [0.5, 0.25]}, index=pd.Index([0, 1], name="epoch"))
    return AlignmentModel(card.build_network(), card, history, np.array([-4, 9]))


def flat(embedded: dict[str, np.ndarray]) -> np.ndarray:
    return np.hstack(list(embedded.values()))


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_batches_change_nothing(make: Callable, batch_size: int) -> None:
    data, model = make(n_side=3), model_of()
    for embed, what in (
        (model.embed_he, data.images),
        (model.embed_expression, data.graphs),
        (model.embed_cells, data.graphs),
    ):
        whole, parts = embed(what, device="cpu"), embed(what, batch_size=batch_size, device="cpu")
        assert np.isfinite(flat(whole)).all()
        np.testing.assert_allclose(flat(parts), flat(whole), rtol=1e-4, atol=1e-5)


def test_tiles_that_are_chosen(make: Callable) -> None:
    """In whatever order they are named; the others have none."""
    data, model = make(n_side=3), model_of()
    chosen = np.array([7, 0, 4])
    for embed, what in ((model.embed_he, data.images), (model.embed_expression, data.graphs)):
        found, whole = embed(what, tiles=chosen, device="cpu"), embed(what, device="cpu")
        for scale, vectors in found.items():
            assert vectors.dtype == np.float32
            assert np.flatnonzero(~np.isnan(vectors[:, 0])).tolist() == [0, 4, 7]
            np.testing.assert_allclose(vectors[chosen], whole[scale][chosen], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(np.linalg.norm(vectors[chosen], axis=1), 1, rtol=1e-5)
        nothing = embed(what, tiles=np.zeros(0, dtype=np.int64), device="cpu")
        assert np.isnan(flat(nothing)).all()


def test_cells_in_the_order_of_their_table(make: Callable) -> None:
    """Each as in the graph of its tile alone; a tile without cells changes nothing."""
    graphs, model = make(n_side=2, n_cells=8).graphs, model_of()
    found = model.embed_cells(graphs, device="cpu")
    for tile in range(4):
        batch = graphs.batch(np.array([tile]))
        rows = graphs.order[graphs.rows(np.array([tile]))[0]]
        with torch.inference_mode():
            expected = model.network.expression.cells(batch)
        for scale in SCALES:
            np.testing.assert_allclose(found[scale][rows], expected[scale].numpy(), rtol=1e-4, atol=1e-5)
    place = np.array([0, 5, 10, 15])
    sparse = CellGraphs(graphs.cells[:4], np.zeros((4, 2)), np.full(4, 2), place, 5, radius_um=20.0, max_pairs=9)
    assert np.isfinite(flat(model.embed_cells(sparse, device="cpu"))).all()


def test_all_scales_of_cells_whatever_is_aligned(make: Callable) -> None:
    """A cell's graph has three scales; of tiles those that were asked for."""
    data, model = make(n_side=2), model_of("macro")
    assert list(model.embed_cells(data.graphs, device="cpu")) == list(SCALES)
    assert list(model.embed_expression(data.graphs, device="cpu")) == ["macro"]
    assert list(model.embed_he({"macro": data.images["macro"]}, device="cpu")) == ["macro"]
    assert repr(model).startswith("AlignmentModel: an alignment of H&E and expression at 1 scale\n")


def test_without_edges_no_pairs_are_listed(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("listed")

    monkeypatch.setattr("stdistill.models.alignment.tiles.candidate_pairs", fail)
    assert np.isfinite(flat(model_of(edges="none").embed_expression(make(n_side=2).graphs, device="cpu"))).all()


def test_a_device_that_is_full(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: AlignmentNetwork, images: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(AlignmentNetwork, "embed_he", fail)
    with pytest.raises(MemoryError, match="The device is out of memory with batch_size=64: try a smaller one"):
        model_of().embed_he(make(n_side=2).images, device="cpu")


def test_saved_and_loaded(make: Callable, tmp_path: Path) -> None:
    data, model = make(n_side=2), model_of()
    model.save(tmp_path / "model")
    again = sd.models.AlignmentModel.load(tmp_path / "model")
    assert (again.card, again.sha256) == (model.card, model.sha256)
    assert again.seen is not None
    assert again.seen.tolist() == [-4, 9]
    assert again.blocks == {}
    pd.testing.assert_frame_equal(again.history, model.history)
    for embed in ("embed_expression", "embed_cells"):
        ours, theirs = (getattr(each, embed)(data.graphs, device="cpu") for each in (model, again))
        np.testing.assert_array_equal(flat(theirs), flat(ours))


def test_blocks_of_an_encoder_are_saved_along(tmp_path: Path) -> None:
    tuned = {"blocks": 1, "encoder": "toy", "revision": "ab"}
    model = model_of(finetuned=tuned)
    model.blocks = {"blocks.1.attn.qkv.weight": torch.arange(6.0).reshape(2, 3)}
    model.save(tmp_path / "tuned")
    again = sd.models.AlignmentModel.load(tmp_path / "tuned")
    assert again.card.finetuned == tuned
    assert torch.equal(again.blocks["blocks.1.attn.qkv.weight"], model.blocks["blocks.1.attn.qkv.weight"])
    assert again.sha256 != model_of(finetuned=tuned).sha256


def test_blocks_that_the_card_does_not_know(tmp_path: Path) -> None:
    """And a card of blocks that are not there."""
    model = model_of()
    model.blocks = {"blocks.1.weight": torch.ones(2)}
    model.save(tmp_path / "unknown")
    with pytest.raises(ValueError, match=r"does not fit the card: .*1 tensors are of an encoder.* the card says None"):
        sd.models.load(tmp_path / "unknown")
    model_of(finetuned={"blocks": 1, "encoder": "toy", "revision": None}).save(tmp_path / "lost")
    with pytest.raises(ValueError, match=r"0 tensors are of an encoder.*'encoder': 'toy'"):
        sd.models.load(tmp_path / "lost")


def test_weights_of_another_size(tmp_path: Path) -> None:
    model = model_of()
    model.card = replace(model.card, network=NETWORK | {"width": 16})
    model.save(tmp_path / "model")
    with pytest.raises(
        ValueError,
        match=r"(?s)model\.safetensors does not fit the card: .*the card asks for \(16, 6\), and there is \(8, 6\)",
    ):
        sd.models.load(tmp_path / "model")
