"""What an earlier stdistill saved still loads, and gives what it gave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest

import stdistill as sd

STORED = Path(__file__).parent / "stored"


@pytest.fixture
def expected() -> dict[str, Any]:
    return dict(np.load(STORED / "expected.npz"))


@pytest.fixture
def cells(expected: dict[str, Any]) -> ad.AnnData:
    cells = ad.AnnData(expected["counts"].astype(np.float32))
    cells.var_names = [f"gene-{number}" for number in range(12)]
    cells.obsm = {key: expected[key] for key in ("spatial", "X_he", "X_scVI")}
    sd.pp.neighborhoods(cells, n_neighbors=15)
    return cells


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_niche_models(name: str, cells: ad.AnnData, expected: dict[str, Any]) -> None:
    model = sd.models.load(STORED / name)
    assert isinstance(model, sd.models.NicheModel)
    sums = json.loads((STORED / name / "card.json").read_text())["sha256"]
    assert model.sha256 == sums["weights.safetensors"]
    sd.tl.predict(cells, model, key_added="again")
    np.testing.assert_allclose(sd.get.logits(cells, "again"), expected[name], rtol=1e-4, atol=1e-4)


def test_a_model_is_saved_in_the_present_format(tmp_path: Path) -> None:
    model = sd.models.NicheModel.load(STORED / "student")
    model.save(tmp_path / "student")
    again = sd.models.load(tmp_path / "student")
    assert again.card == model.card
    assert again.sha256 == model.sha256
    assert json.loads((tmp_path / "student" / "card.json").read_text())["format_version"] == 3


def test_an_expression_model(cells: ad.AnnData, expected: dict[str, Any], tmp_path: Path) -> None:
    sd.pp.embed_expression(cells, model=STORED / "expression_model", key_added="again")
    np.testing.assert_allclose(cells.obsm["again"], expected["X_scVI"], rtol=1e-4, atol=1e-4)
    record = cells.uns["stdistill"]["embed_expression_again"]
    assert len(record["elbo_train"]) == record["max_epochs"] == 3
    model = sd.models.load(STORED / "expression_model")
    model.save(tmp_path / "model")
    assert sd.models.load(tmp_path / "model").sha256 == record["model_sha256"]


def test_a_store_of_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its features are taken, and none is computed."""
    slide = sd.pp.read_xenium(sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100, seed=3))
    store = Path(shutil.copytree(STORED / "store", tmp_path / "store"))
    before = (store / "features.npy").read_bytes()
    monkeypatch.setattr("stdistill._features.store.FeatureStore.write", lambda *_: pytest.fail("computed again"))
    with pytest.warns(UserWarning, match="earlier version"):
        sd.pp.embed_he(slide, encoder="texture", crop_px=32, store=store)
    assert (store / "features.npy").read_bytes() == before
    stored = np.load(store / "features.npy")
    order = (store / "cell_ids.txt").read_text().split()
    np.testing.assert_array_equal(slide["table"][order].obsm["X_he"], stored)


def test_a_table() -> None:
    """Where its cells lie on the H&E is known from the record of that time."""
    table = ad.read_h5ad(STORED / "cells.h5ad")
    assert "slide" not in table.uns["stdistill"]
    pixels = sd.get.he_pixels(table)
    assert pixels["on_image"].all()
    assert pixels["mpp"].iloc[0] == pytest.approx(0.274, abs=0.01)
    sd.pp.split_strips(table, crop_px=32)
    assert table.obs["split"].notna().all()
