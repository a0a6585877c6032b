"""Models to the hub and back, against one on this machine that speaks its interface."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from huggingface_hub import constants

import stdistill as sd

FILES = {"README.md", "card.json", "history.csv", "model.safetensors"}
Make = Callable[..., sd.models.NicheModel]


def test_there_and_back(hub, make_student: Make, cells: ad.AnnData) -> None:  # type: ignore[no-untyped-def]
    student = make_student()
    commit = student.push_to_hub("lab/breast", tissue="human breast cancer")
    assert set(hub.repositories["lab/breast"].commits) == {commit}  # one
    assert set(hub.repositories["lab/breast"].commits[commit]) == FILES
    assert student.card.tissue == "human breast cancer"
    assert student.card.licence == "CC-BY-NC-ND-4.0"
    again = sd.models.NicheModel.from_pretrained("lab/breast")
    assert again.card == student.card
    assert again.sha256 == student.sha256
    assert repr(again) == repr(student)
    for model, key in ((student, "here"), (again, "there")):
        sd.tl.predict(cells, model, key_added=key)
    np.testing.assert_array_equal(sd.get.logits(cells, "here"), sd.get.logits(cells, "there"))
    assert "Bearer hf_not_a_token" in hub.tokens


def test_what_is_pulled(hub, make_student: Make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Nothing else than the four files, least of all a pickle."""
    make_student().push_to_hub("lab/breast")
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (open, (str(ran), "w"))  # type: ignore[return-value]

    others = {"pytorch_model.bin": pickle.dumps(Evil()), "model.pkl": b"x", "sub/card.json": b"{}", "train.py": b"x"}
    hub.repositories["lab/breast"].commit(others)
    hub.requests.clear()
    sd.models.NicheModel.from_pretrained("lab/breast")
    assert set(hub.downloads()) == FILES
    assert not any("sub" in path for _, path in hub.requests)
    assert not ran.exists()


def test_a_revision_is_pinned(hub, make_student: Make) -> None:  # type: ignore[no-untyped-def]
    first = make_student().push_to_hub("lab/breast", tissue="first")
    second = make_student().push_to_hub("lab/breast", tissue="second")
    assert first != second
    for revision, tissue in ((first, "first"), (second, "second"), ("main", "second"), (None, "second")):
        assert sd.models.NicheModel.from_pretrained("lab/breast", revision=revision).card.tissue == tissue
    assert sd.models.load(f"hf:lab/breast@{first}").card.tissue == "first"
    assert sd.models.load("hf:lab/breast").card.tissue == "second"
    with pytest.raises(FileNotFoundError, match=r"'lab/breast' of revision 'v9' .* has no such revision"):
        sd.models.NicheModel.from_pretrained("lab/breast", revision="v9")


def test_without_network(hub, make_student: Make, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """What was fetched before is read, by its commit and by its branch; the rest is said to be missing."""
    student = make_student()
    commit = student.push_to_hub("lab/breast")
    sd.models.NicheModel.from_pretrained("lab/breast")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    for revision in (None, commit):
        assert sd.models.NicheModel.from_pretrained("lab/breast", revision=revision).sha256 == student.sha256
    with pytest.raises(ConnectionError, match="not all of it is on this machine"):
        sd.models.NicheModel.from_pretrained("lab/colon")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        student.push_to_hub("lab/breast")
    assert hub.requests == []


def test_a_hub_out_of_reach(hub, make_student: Make) -> None:  # type: ignore[no-untyped-def]
    make_student().push_to_hub("lab/breast")
    sd.models.NicheModel.from_pretrained("lab/breast")
    hub.shutdown()
    hub.server_close()
    assert sd.models.NicheModel.from_pretrained("lab/breast").card.k == 2
    with pytest.raises(ConnectionError, match="could not be reached"):
        sd.models.NicheModel.from_pretrained("lab/colon")
    with pytest.raises(ConnectionError, match="could not be reached"):
        make_student().push_to_hub("lab/colon")


def test_no_access(hub, make_student: Make) -> None:  # type: ignore[no-untyped-def]
    make_student().push_to_hub("lab/breast")
    hub.repositories["lab/breast"].gated = True
    with pytest.raises(PermissionError, match=r"no access yet.*huggingface\.co/lab/breast.*`hf auth login`"):
        sd.models.NicheModel.from_pretrained("lab/breast")
    with pytest.raises(FileNotFoundError, match="no repository 'lab/none'; it may be private, or spelled differently"):
        sd.models.NicheModel.from_pretrained("lab/none")
    with pytest.raises(PermissionError, match=r"as 'others/breast': the hub refuses .* write to 'others'"):
        make_student().push_to_hub("others/breast")


def test_nobody_is_logged_in(hub, make_student: Make, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PermissionError, match=r"you are not logged in\. Log in with `hf auth login`"):
        make_student().push_to_hub("lab/breast")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["breast", "a/b/c", "lab/", "/breast", "", 3])
def test_names(name: object, make_student: Make) -> None:
    with pytest.raises(ValueError, match="named owner/name"):
        sd.models.NicheModel.from_pretrained(name)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="named owner/name"):
        make_student().push_to_hub(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["card.json", "model.safetensors", "history.csv"])
def test_what_was_tampered_with(name: str, hub, make_student: Make) -> None:  # type: ignore[no-untyped-def]
    make_student().push_to_hub("lab/breast")
    repository = hub.repositories["lab/breast"]
    content = repository.commits[repository.find("main")][name]
    changed = content.replace(b'"k": 2', b'"k": 3') if name == "card.json" else content[:-1] + b"7"
    repository.commit({name: changed})
    with pytest.raises(ValueError, match="is not the file that was saved"):
        sd.models.NicheModel.from_pretrained("lab/breast")


def test_a_repository_of_something_else(hub, make_student: Make) -> None:  # type: ignore[no-untyped-def]
    make_student().push_to_hub("lab/breast")
    hub.repositories["lab/breast"].commits.clear()
    hub.repositories["lab/breast"].commit({"README.md": b"# words", "pytorch_model.bin": b"x"})
    with pytest.raises(FileNotFoundError, match=r"'lab/breast' holds no model of stdistill: there is no card\.json"):
        sd.models.NicheModel.from_pretrained("lab/breast")


def test_weights_that_are_not_the_students(hub, make_student: Make) -> None:  # type: ignore[no-untyped-def]
    """As where the network was trained on by hand: the card is not of it any more."""
    student = make_student()
    other = student.card.build_network()
    torch.nn.init.normal_(other.head.weight if hasattr(other.head, "weight") else next(iter(other.parameters())))
    student.network = other
    with pytest.raises(ValueError, match=r"The weights of the model .* are not those that its card was written for"):
        student.push_to_hub("lab/breast")
    assert hub.requests == []


def test_a_folder_that_was_changed(hub, make_student: Make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make_student().save(tmp_path / "student")
    weights = tmp_path / "student" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ValueError, match="is not the file that was saved"):
        sd.models.NicheModel.load(tmp_path / "student").push_to_hub("lab/breast")


def test_a_saved_model_is_shared_as_it_is(hub, make_student: Make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make_student().save(tmp_path / "student")
    loaded = sd.models.NicheModel.load(tmp_path / "student")
    commit = loaded.push_to_hub("lab/breast", private=True)
    files = hub.repositories["lab/breast"].commits[commit]
    assert hub.repositories["lab/breast"].private
    for name in ("model.safetensors", "history.csv"):
        assert files[name] == (tmp_path / "student" / name).read_bytes()
    assert json.loads(files["card.json"])["sha256"]["model.safetensors"] == loaded.sha256


def test_features_of_another_encoder(hub, make_student: Make, cells: ad.AnnData) -> None:  # type: ignore[no-untyped-def]
    make_student().push_to_hub("lab/breast")
    pulled = sd.models.NicheModel.from_pretrained("lab/breast")
    others = cells.copy()
    others.uns["stdistill"] = {
        "embed_he": {"key_added": "X_he", "encoder": "virchow2", "crop_px": 112, "mpp": 0.5, "revision": "sha256-9a12"}
    }
    with pytest.raises(ValueError, match="computed with encoder 'virchow2', the model was trained on 'uni2-h'"):
        sd.tl.predict(others, pulled)


def test_another_kind_of_model(hub, make_student: Make) -> None:  # type: ignore[no-untyped-def]
    make_student().push_to_hub("lab/breast")
    with pytest.raises(ValueError, match="holds a model of the kind 'niche', expected 'composition'"):
        sd.models.CompositionModel.from_pretrained("lab/breast")


def test_a_composition_of_other_niches(hub, make_student: Make, cells: ad.AnnData) -> None:  # type: ignore[no-untyped-def]
    student = make_student()
    composition = sd.tl.composition(cells, niche_key="region", cell_type_key="cell_type")
    with pytest.raises(ValueError, match="no row for 'tumour'"):
        student.push_to_hub("lab/breast", composition=composition.drop(index="tumour"))
    assert student.card.cell_types is None
    student.push_to_hub("lab/breast", composition=composition)
    types = student.card.cell_types
    assert types is not None
    tumour = types[student.card.niches.index("tumour")]
    assert list(tumour) == ["epithelial", "fibroblast"]
    assert tumour["epithelial"] == pytest.approx(composition.loc["tumour", "epithelial"])
