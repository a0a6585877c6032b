from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

import stdistill as sd
from stdistill.encoders import _registry
from stdistill.encoders._access import check

COMMIT = "c0ffee" + 34 * "0"
REVISION = "sha256-9a129038d9a00aed"  # of b"weights"


def file_of(weights: dict[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()


# Without a network


def test_gated_without_token(attempts: list[Any]) -> None:
    with pytest.raises(PermissionError, match="not logged in") as caught:
        check(sd.encoders.get("uni2-h"))
    assert attempts == []
    for advice in (
        "https://huggingface.co/MahmoodLab/UNI2-h",
        "`hf auth login`",
        'sd.encoders.get("uni2-h", weights="path/to/pytorch_model.bin")',
        "Open to all: h-optimus-0, phikon-v2",
        '"texture" is built in',
    ):
        assert advice in str(caught.value)


@pytest.mark.parametrize("name", ["uni2-h", "h-optimus-0"])
def test_hub_switched_off(name: str, attempts: list[Any], hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE is set"):
        check(sd.encoders.get(name))
    assert attempts == hub.requests == []


def test_open_weights_out_of_reach(attempts: list[Any]) -> None:
    """Known before anything is computed, and not when they are downloaded."""
    with pytest.raises(ConnectionError, match=r"'h-optimus-0' cannot be had: .* the hub could not be reached"):
        check(sd.encoders.get("h-optimus-0"))
    assert attempts


def test_cached_weights(cache_weights: Callable, hub: Any) -> None:
    cache_weights("MahmoodLab/UNI2-h")
    assert check(sd.encoders.get("uni2-h")) == REVISION
    assert hub.requests == []


def test_nothing_to_fetch(attempts: list[Any]) -> None:
    module = sd.encoders.from_module(torch.nn.Identity(), mean=(0, 0, 0), std=(1, 1, 1))
    for encoder in (sd.encoders.get("texture"), sd.encoders.get("uni2-h", weights="random"), module):
        assert check(encoder) == encoder.revision
    assert attempts == []


def test_local_file_that_went_away(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    encoder = sd.encoders.get("uni2-h", weights=path)
    assert check(encoder) == encoder.revision == REVISION
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no file or folder of weights at .*weights\.bin"):
        check(encoder)


# With a hub


def test_access_granted(hub: Any) -> None:
    assert check(sd.encoders.get("uni2-h")) == REVISION
    assert {method for method, path, _ in hub.requests if "/resolve/" in path} == {"HEAD"}  # nothing is downloaded
    assert hub.requests[-1][1:] == ("/MahmoodLab/UNI2-h/resolve/main/pytorch_model.bin", "Bearer hf_not_a_token")


def test_open_weights_without_a_token(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert check(sd.encoders.get("h-optimus-0")) == REVISION
    assert {authorization for *_, authorization in hub.requests} == {""}


@pytest.mark.parametrize("name", ["uni2-h", "h-optimus-0"])
def test_same_weights_have_the_same_revision(name: str, hub: Any, cache_weights: Callable, tmp_path: Path) -> None:
    """From the hub before and after the download, and from a copy: their features may meet."""
    (before,) = _registry.resolve(name)
    cached = cache_weights(sd.encoders.get(name).source)
    (after,) = _registry.resolve(name)
    copy = tmp_path / "copy.bin"
    copy.write_bytes(cached.read_bytes())
    (copied,) = _registry.resolve(sd.encoders.get(name, weights=copy))
    assert before.revision == after.revision == copied.revision == REVISION
    copy.write_bytes(b"other weights")
    assert sd.encoders.get(name, weights=copy).revision != REVISION


def test_the_hash_of_a_cached_file_is_its_name(cache_weights: Callable, attempts: list[Any]) -> None:
    """The hub's cache links to it; gigabytes are not read again."""
    cached = cache_weights("MahmoodLab/UNI2-h")
    blob = cached.parent.parent.parent / "blobs" / hashlib.sha256(cached.read_bytes()).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(b"not read")
    cached.unlink()
    cached.symlink_to(blob)
    assert check(sd.encoders.get("uni2-h")) == REVISION


def test_a_slow_hub(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for as long as its client is told, unless there is another encoder to go on with."""
    asked = []
    metadata = huggingface_hub.get_hf_file_metadata

    def slow(*arguments: Any, timeout: float, **keywords: Any) -> Any:
        asked.append(timeout)
        return metadata(*arguments, timeout=timeout, **keywords)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", slow)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 60)
    _registry.resolve("h-optimus-0")
    _registry.resolve("auto")
    assert {60, 3} == set(asked)


def test_a_known_revision_is_not_asked_for_again(hub: Any) -> None:
    (encoder,) = _registry.resolve("uni2-h")
    n_requests = len(hub.requests)
    assert _registry.resolve(encoder) == [encoder]
    assert len(hub.requests) == n_requests


def test_weights_without_a_hash(hub: Any) -> None:
    """A small file lies in git, under a hash that is not that of its content."""
    hub.in_git = True
    assert check(sd.encoders.get("uni2-h")) is None


def test_access_granted_to_files_of_other_names(hub: Any) -> None:
    hub.files = {}
    assert check(sd.encoders.get("uni2-h")) is None


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        ((403, "GatedRepo"), PermissionError, "your account has no access yet, or your token may not read gated"),
        ((404, "RepoNotFound"), FileNotFoundError, "shows no repository 'MahmoodLab/UNI2-h'"),
        ((401, "", "Invalid credentials in Authorization header"), PermissionError, "refuses your token"),
        ((403, "", "Forbidden"), PermissionError, "refuses your token"),
        ((500,), ConnectionError, "answers with status 500"),
    ],
)
def test_refusals(hub: Any, answer: tuple, error: type[OSError], reason: str) -> None:
    hub.fail(*answer)
    with pytest.raises(error, match=reason) as caught:
        check(sd.encoders.get("uni2-h"))
    assert "weights=" in str(caught.value)
    assert "h-optimus-0" in str(caught.value)


def test_hub_out_of_reach(attempts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    with pytest.raises(ConnectionError, match="the hub could not be reached"):
        check(sd.encoders.get("uni2-h"))
    assert len(attempts) == 1


# Loading


@pytest.mark.usefixtures("small_uni2_h")
def test_download(hub: Any, tmp_path: Path, checkpoint_of: Callable[..., dict[str, torch.Tensor]]) -> None:
    hub.files["pytorch_model.bin"] = file_of(checkpoint_of(sd.encoders.get("uni2-h", weights="random")))
    images = torch.rand(2, 3, 28, 28)
    expected = sd.encoders.get("uni2-h", weights="random").load()(images)
    torch.testing.assert_close(sd.encoders.get("uni2-h").load()(images), expected)
    n_requests = len(hub.requests)
    assert [path.parent.name for path in (tmp_path / "hub").glob("**/snapshots/*/pytorch_model.bin")] == [COMMIT]
    torch.testing.assert_close(sd.encoders.get("uni2-h").load()(images), expected)
    assert len(hub.requests) == n_requests  # it is on this machine now


@pytest.mark.usefixtures("small_uni2_h")
def test_cached_weights_load_without_a_network(
    cache_weights: Callable, attempts: list[Any], checkpoint_of: Callable[..., dict[str, torch.Tensor]]
) -> None:
    random = sd.encoders.get("uni2-h", weights="random")
    cached = cache_weights("MahmoodLab/UNI2-h", file_of(checkpoint_of(random)))
    (encoder,) = _registry.resolve("uni2-h")
    images = torch.rand(2, 3, 28, 28)
    torch.testing.assert_close(encoder.load()(images), random.load()(images))
    assert encoder.revision == f"sha256-{hashlib.sha256(cached.read_bytes()).hexdigest()[:16]}"
    assert attempts == []


def test_download_refused(hub: Any) -> None:
    hub.fail(403, "GatedRepo")
    with pytest.raises(PermissionError, match="'virchow2' cannot be had"):
        sd.encoders.get("virchow2").load()


def test_repository_without_weights(hub: Any) -> None:
    hub.files = {"README.md": b""}
    with pytest.raises(FileNotFoundError, match=r"has no model.safetensors and no pytorch_model.bin"):
        sd.encoders.get("h-optimus-0").load()
