from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import stdistill as sd
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.card import ModelCard
from stdistill.models.niche.model import NicheModel

CARD, WEIGHTS, HISTORY = "card.json", "model.safetensors", "history.csv"


@pytest.fixture
def model(make_network: Callable) -> NicheModel:
    size = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "dropout": 0.0, "head": "linear"}
    card = ModelCard(
        kind="distillation",
        k=3,
        feature_key="X_he",
        n_features=5,
        radius_um=60.0,
        niches=["tumour", "stroma", "Bürzel"],
        colors=["#000000", "#ff0000", "#0000ff"],
        network=size,
        encoder="texture",
        mpp=0.274,
        temperature=0.1,
        training={"seed": 0, "learning_rate": 1e-3, "patience": None},
        versions={"stdistill": "0.1"},
    )
    history = pd.DataFrame({"training_loss": [0.1 + 0.2, 1 / 3]}, index=pd.Index([0, 1], name="epoch"))
    return NicheModel(make_network(), card, history)


def predict(model: NicheModel, data: Neighborhoods, **options) -> np.ndarray:
    return model.predict(data.features, data.indptr, data.indices, data.centers, **options)


def test_save_load_predict_is_bit_identical(model: NicheModel, make_neighborhoods: Callable, tmp_path: Path) -> None:
    data = make_neighborhoods()
    model.save(tmp_path / "models" / "student")
    loaded = sd.models.NicheModel.load(tmp_path / "models" / "student")
    assert predict(model, data).tobytes() == predict(loaded, data).tobytes()
    assert loaded.card == model.card
    assert loaded.radius_um == 60.0
    assert loaded.sha256 == model.sha256
    pd.testing.assert_frame_equal(loaded.history, model.history, check_exact=True)


def test_saved_files_can_be_read(model: NicheModel, tmp_path: Path) -> None:
    model.save(tmp_path / "student")
    assert sorted(path.name for path in (tmp_path / "student").iterdir()) == [CARD, HISTORY, WEIGHTS]
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
    text = (tmp_path / "student" / CARD).read_text()
    assert "Bürzel" in text
    assert json.loads(text)["model"]["radius_um"] == 60.0


def test_predict_in_pieces(model: NicheModel, make_neighborhoods: Callable) -> None:
    data = make_neighborhoods()
    whole = predict(model, data)
    np.testing.assert_allclose(predict(model, data, batch_size=7), whole, atol=1e-5)
    some = predict(model, data, cells=np.array([3, 9]))
    np.testing.assert_allclose(some[[3, 9]], whole[[3, 9]], atol=1e-5)
    assert np.isnan(some).all(axis=1).sum() == 198
    assert whole.dtype == np.float32


def test_a_long_prediction_says_how_far_it_is(
    model: NicheModel, make_neighborhoods: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stdistill._support.progress.LINE_EVERY_S", 0.0)
    predict(model, make_neighborhoods(), cells=np.arange(50), batch_size=25)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("Niches: 25 of 50 cells (50%)")
    assert said[1].startswith("Niches: 50 of 50 cells (100%)")
    predict(model, make_neighborhoods(), cells=np.arange(50), batch_size=25, progress_bar=False)
    assert capsys.readouterr().err == ""


def test_predict_without_features(model: NicheModel, make_neighborhoods: Callable) -> None:
    features = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float16)
    features[20:50] = np.nan
    data = make_neighborhoods(features=features)
    missing = np.isnan(predict(model, data)).all(axis=1)
    assert np.flatnonzero(missing).tolist() == list(range(20, 50))
    features[:] = np.nan
    assert np.isnan(predict(model, data)).all()


def test_predict_leaves_dropout_off(model: NicheModel, make_neighborhoods: Callable) -> None:
    model.network.train()
    for module in model.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    data = make_neighborhoods()
    np.testing.assert_array_equal(predict(model, data), predict(model, data))


def test_predict_wrong_dimension(model: NicheModel, make_neighborhoods: Callable) -> None:
    with pytest.raises(ValueError, match=r"shape \(200, 6\); the model was trained on 5 features"):
        predict(model, make_neighborhoods(n_features=6))


def test_nothing_is_overwritten_silently(model: NicheModel, tmp_path: Path) -> None:
    model.save(tmp_path / "student")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(tmp_path / "student")
    model.history.loc[2] = 7.0
    model.save(tmp_path / "student", overwrite=True)
    assert len(NicheModel.load(tmp_path / "student").history) == 3
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("…")
    with pytest.raises(FileExistsError, match="something else"):
        model.save(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_failed_save_leaves_nothing(model: NicheModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.save(tmp_path / "student")
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    for name in ("student", "other"):
        with pytest.raises(OSError, match="disk full"):
            model.save(tmp_path / name, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
    NicheModel.load(tmp_path / "student")


@pytest.mark.parametrize("name", [CARD, WEIGHTS, HISTORY])
def test_truncated_or_missing_file(model: NicheModel, tmp_path: Path, name: str) -> None:
    model.save(tmp_path / "student")
    file = tmp_path / "student" / name
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"{name}.*(changed|cut off)"):
        NicheModel.load(tmp_path / "student")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"no {name}"):
        NicheModel.load(tmp_path / "student")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model", "radius_um"), 30.0, "was changed"),
        (("model", "k"), 4, "was changed"),
        (("format",), "a poem", "not the card of"),
        (("format_version",), 4, "version 4 of the format; this stdistill reads version 3"),
        (("sha256",), None, "was changed"),
    ],
)
def test_tampered_card(model: NicheModel, tmp_path: Path, path: tuple, value: object, message: str) -> None:
    model.save(tmp_path / "student")
    card = json.loads((tmp_path / "student" / CARD).read_text())
    part = card
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    (tmp_path / "student" / CARD).write_text(json.dumps(card))
    with pytest.raises(ValueError, match=message):
        NicheModel.load(tmp_path / "student")


def test_tampered_weights(model: NicheModel, tmp_path: Path) -> None:
    model.save(tmp_path / "student")
    file = tmp_path / "student" / WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is not the file that was saved"):
        NicheModel.load(tmp_path / "student")


def test_weights_of_another_model(model: NicheModel, make_network: Callable, tmp_path: Path) -> None:
    model.save(tmp_path / "student")
    NicheModel(make_network(k=4), model.card, model.history).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS, tmp_path / "student" / WEIGHTS)
    with pytest.raises(ValueError, match="not the file that was saved"):
        NicheModel.load(tmp_path / "student")
    with pytest.raises(ValueError, match="does not fit the card"):
        NicheModel.load(tmp_path / "other")


def test_card_is_checked() -> None:
    values = {"kind": "distillation", "k": 2, "feature_key": "X_he", "n_features": 5, "radius_um": 60.0}
    values |= {"niches": ["0", "1"], "colors": ["#000000", "#ffffff"], "network": {}}
    card = ModelCard(**values)
    assert ModelCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    with pytest.raises(ValueError, match=r"lacks entries that every such model has: .*'k'"):
        ModelCard.from_dict({name: value for name, value in card.to_dict().items() if name != "k"})
    with pytest.raises(ValueError, match="radius_um is 'wide'"):
        ModelCard.from_dict(card.to_dict() | {"radius_um": "wide"})
    with pytest.raises(ValueError, match="lists 3 niches; expected k = 2"):
        ModelCard.from_dict(card.to_dict() | {"niches": ["0", "1", "2"]})
