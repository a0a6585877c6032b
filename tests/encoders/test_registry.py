from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import stdistill as sd
from stdistill.encoders._registry import resolve

REVISION = "sha256-9a129038d9a00aed"  # of b"weights"


def mean_colour() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.fixture
def own() -> sd.encoders.Encoder:
    return sd.encoders.from_module(mean_colour(), mean=(0, 0, 0), std=(1, 1, 1), name="mean-colour", dim=3)


# Names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("UNI2-h", "'uni2-h'"),
        ("uni2", "'uni2-h'"),
        ("UNIv2", "'uni2-h'"),
        ("gigapath", "'prov-gigapath'"),
        ("hoptimus0", "'h-optimus-0'"),
        ("phikon", "'phikon-v2'"),
        ("vit_smal_patch16_224", "'vit_small_patch16_224'"),
    ],
)
def test_unknown_names_suggest(name: str, meant: str) -> None:
    with pytest.raises(KeyError) as caught:
        sd.encoders.get(name)
    message = caught.value.args[0]
    assert f"There is no encoder {name!r}. Did you mean" in message
    assert meant in message.partition("There are:")[0]
    assert "texture, uni2-h, uni, " in message


def test_unknown_name_unlike_any() -> None:
    with pytest.raises(KeyError, match="There are: auto, texture, uni2-h"):
        sd.encoders.get("zzzzzz")
    with pytest.raises(TypeError, match="found int"):
        sd.encoders.get(3)  # type: ignore[arg-type]


def test_register(own: sd.encoders.Encoder) -> None:
    sd.encoders.register(own)
    assert sd.encoders.get("mean-colour") is own
    with pytest.raises(ValueError, match="already"):
        sd.encoders.register(own)
    other = replace(own, licence="MIT")
    sd.encoders.register(other, overwrite=True)
    assert sd.encoders.get("mean-colour") is other
    with pytest.raises(ValueError, match="registered with its own"):
        sd.encoders.get("mean-colour", weights="random")


def test_register_over_the_catalogue(own: sd.encoders.Encoder) -> None:
    mine = replace(own, name="uni2-h")
    with pytest.raises(ValueError, match="'uni2-h' already"):
        sd.encoders.register(mine)
    sd.encoders.register(mine, overwrite=True)
    assert sd.encoders.get("uni2-h") is mine


def test_register_refuses() -> None:
    with pytest.raises(TypeError, match="from_module"):
        sd.encoders.register(mean_colour())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'auto' stands for"):
        sd.encoders.register(replace(sd.encoders.get("texture"), name="auto"))


# Weights


@pytest.mark.usefixtures("small_uni2_h")
@pytest.mark.parametrize("as_folder", [False, True])
def test_local_weights(
    tmp_path: Path, as_folder: bool, attempts: list[Any], checkpoint_of: Callable[..., dict[str, torch.Tensor]]
) -> None:
    random = sd.encoders.get("uni2-h", weights="random")
    path = tmp_path / "pytorch_model.bin"
    torch.save(checkpoint_of(random), path)
    encoder = sd.encoders.get("uni2-h", weights=tmp_path if as_folder else path)
    images = torch.rand(2, 3, 28, 28)
    torch.testing.assert_close(encoder.load()(images), random.load()(images))
    assert (encoder.name, random.name) == ("uni2-h", "uni2-h-random")
    assert encoder.source == str(tmp_path if as_folder else path)
    assert encoder.licence == "CC-BY-NC-ND-4.0"  # where they lie changes nothing about that
    assert encoder.mean == sd.encoders.get("uni2-h").mean
    assert attempts == []


@pytest.mark.usefixtures("small_uni2_h")
def test_tampered_weights(tmp_path: Path, checkpoint_of: Callable[..., dict[str, torch.Tensor]]) -> None:
    state = checkpoint_of(sd.encoders.get("uni2-h", weights="random"))
    state["reg_token"] = state["reg_token"][:, :4]
    del state["norm.weight"]
    torch.save(state, tmp_path / "uni2.bin")
    encoder = sd.encoders.get("uni2-h", weights=tmp_path / "uni2.bin")
    with pytest.raises(ValueError, match=r"missing \(norm.weight\).*reg_token: \(1, 4, 48\), expected \(1, 8, 48\)"):
        encoder.load()


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        sd.encoders.get("uni2-h", weights=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="'texture' cannot be replaced: it has none"):
        sd.encoders.get("texture", weights="random")


@pytest.mark.parametrize("name", ["phikon-v2", "conch"])
def test_no_random_weights_without_an_architecture(name: str) -> None:
    with pytest.raises(ValueError, match="no random weights"):
        sd.encoders.get(name, weights="random").load()


@pytest.mark.parametrize("name", ["hibou-l", "hibou-b"])
def test_code_of_others_runs_only_when_allowed(name: str) -> None:
    with pytest.raises(ValueError, match=r"Python code of the repository histai/.*trust_remote_code=True"):
        sd.encoders.get(name)
    assert sd.encoders.get(name, trust_remote_code=True).source == sd.encoders.list().loc[name, "source"]


# What embed_he asks for


def test_resolve(own: sd.encoders.Encoder) -> None:
    texture = sd.encoders.get("texture")
    assert resolve("texture") == resolve(texture) == resolve(["texture"]) == [texture]
    assert resolve(["texture", own]) == resolve((texture, own)) == [texture, own]
    with pytest.raises(ValueError, match="several different ones"):
        resolve(["texture", "texture"])
    with pytest.raises(ValueError, match="several different ones"):
        resolve([])


@pytest.mark.usefixtures("small_uni2_h")
def test_a_file_that_was_written_anew_is_another(
    tmp_path: Path, checkpoint_of: Callable[..., dict[str, torch.Tensor]]
) -> None:
    path = tmp_path / "pytorch_model.bin"
    state = checkpoint_of(sd.encoders.get("uni2-h", weights="random"))
    torch.save(state, path)
    encoder = sd.encoders.get("uni2-h", weights=path)
    assert resolve(encoder) == [encoder]
    torch.save({key: value + 1 for key, value in state.items()}, path)
    (again,) = resolve(encoder)
    assert again.revision == sd.encoders.get("uni2-h", weights=path).revision != encoder.revision


def test_weights_of_an_encoder_of_ones_own_are_told_apart() -> None:
    """It names neither source nor revision: what `load` builds tells."""

    def build(scale: float) -> nn.Module:
        network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        nn.init.constant_(network[2].weight, scale)
        nn.init.zeros_(network[2].bias)
        return network

    made = {"name": "own", "dim": 2, "mean": (0, 0, 0), "std": (1, 1, 1)}
    first, same, other = (sd.encoders.Encoder(load=partial(build, scale), **made) for scale in (1.0, 1.0, 2.0))
    revisions = [resolve(one)[0].revision for one in (first, same, other)]
    assert revisions[0] is not None
    assert revisions[0] == revisions[1] != revisions[2]
    assert resolve(replace(first, revision="mine"))[0].revision == "mine"


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: ["texture", module]])
def test_bare_modules_are_refused(wrap: Callable) -> None:
    with pytest.raises(TypeError, match=re.escape("wrap it with sd.encoders.from_module(module, mean=")):
        resolve(wrap(mean_colour()))
    with pytest.raises(TypeError, match="found int"):
        resolve(wrap(3))


def test_named_encoder_that_cannot_be_had(attempts: list[Any]) -> None:
    with pytest.raises(PermissionError, match="Open to all: h-optimus-0, phikon-v2"):
        resolve("virchow2")
    with pytest.raises(PermissionError, match="'uni'"):
        resolve(["texture", "uni"])
    assert attempts == []


def test_auto_without_weights(attempts: list[Any]) -> None:
    with pytest.warns(UserWarning, match="uses the built-in encoder 'texture', not 'uni2-h'") as caught:
        (encoder,) = resolve("auto")
    assert encoder == sd.encoders.get("texture")
    (warning,) = caught
    assert warning.filename == __file__
    for part in ("for trying things out", "https://huggingface.co/MahmoodLab/UNI2-h", "hf auth login", "h-optimus-0"):
        assert part in str(warning.message)
    assert attempts == []


@pytest.mark.filterwarnings("error")
def test_auto_with_cached_weights(cache_weights: Callable, attempts: list[Any]) -> None:
    cache_weights("MahmoodLab/UNI2-h")
    (encoder,) = resolve("auto")
    assert (encoder.name, encoder.revision) == ("uni2-h", REVISION)
    assert attempts == []


@pytest.mark.filterwarnings("error")
def test_auto_with_access(hub: Any) -> None:
    (encoder,) = resolve("auto")
    assert (encoder.name, encoder.revision) == ("uni2-h", REVISION)
    assert {method for method, path, _ in hub.requests if "/resolve/" in path} == {"HEAD"}


def test_auto_with_access_refused(hub: Any) -> None:
    hub.fail(403, "GatedRepo")
    with pytest.warns(UserWarning, match="your account has no access yet"):
        assert resolve("auto")[0].name == "texture"


def test_auto_with_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    with pytest.warns(UserWarning, match="the hub could not be reached"):
        assert resolve("auto")[0].name == "texture"
