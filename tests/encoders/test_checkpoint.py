from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import stdistill as sd
from stdistill.encoders._checkpoint import find_weights, fingerprint, load_into, read


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build()


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt", ".pth"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_formats(network: nn.Module, tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    path = tmp_path / f"weights{suffix}"
    state = {key: value.to(dtype) for key, value in network.state_dict().items()}
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    loaded = load_into(build, path, name="stand-in")
    for key, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].float())


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_training_checkpoints(network: nn.Module, tmp_path: Path, key: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save({key: {f"module.{k}": v for k, v in network.state_dict().items()}, "epoch": 3}, path)
    x = torch.rand(4, 2)
    assert torch.equal(load_into(build, path, name="stand-in")(x), network(x))


class Scaled(nn.Linear):
    """Has a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__(2, 3)
        self.register_buffer("scale", torch.arange(3.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.scale


def test_buffers_that_are_not_saved(tmp_path: Path) -> None:
    original = Scaled()
    torch.save(original.state_dict(), tmp_path / "weights.bin")
    x = torch.rand(4, 2)
    assert torch.equal(load_into(Scaled, tmp_path / "weights.bin", name="scaled")(x), original(x))


def test_misfits_are_named(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    state = network.state_dict()
    state["2.weight"] = state.pop("1.weight")
    state["0.weight"] = torch.zeros(3, 5)
    torch.save(state, path)
    with pytest.raises(ValueError, match="does not hold the weights of 'stand-in'") as caught:
        load_into(build, path, name="stand-in")
    message = str(caught.value)
    assert "1 weights are missing (1.weight)" in message
    assert "1 are not of this architecture (2.weight)" in message
    assert "1 have another shape (0.weight: (3, 5), expected (3, 2))" in message


def test_classifier_is_left_out(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    torch.save({**network.state_dict(), "head.weight": torch.zeros(2, 3), "head.bias": torch.zeros(2)}, path)
    assert set(load_into(build, path, name="stand-in", ignored=["head"]).state_dict()) == set(network.state_dict())
    with pytest.raises(ValueError, match=r"head\.weight, head\.bias"):
        load_into(build, path, name="stand-in")


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("plain", [False, True])
def test_code_in_a_checkpoint_does_not_run(network: nn.Module, tmp_path: Path, plain: bool) -> None:
    path, marker = tmp_path / "weights.bin", tmp_path / "ran"
    content = {**network.state_dict(), "extra": Evil(marker)}
    if plain:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="nothing else is unpickled") as caught:
        read(path)
    assert not marker.exists()
    assert "weights_only" not in str(caught.value)  # no advice to do it all the same


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_not_a_checkpoint(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        read(path)


def test_truncated(network: nn.Module, tmp_path: Path) -> None:
    for path, save in ((tmp_path / "a.bin", torch.save), (tmp_path / "a.safetensors", save_file)):
        save(network.state_dict(), path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match="not a readable checkpoint"):
            read(path)


@pytest.mark.parametrize("content", [{}, {"weight": 3}, [torch.zeros(2)], torch.zeros(2)])
def test_not_named_tensors(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.bin")
    with pytest.raises(ValueError, match=r"weights\.bin"):
        read(tmp_path / "weights.bin")


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        find_weights(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no model.safetensors and no pytorch_model.bin, but config.json"):
        find_weights(tmp_path)
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).touch()
        assert find_weights(tmp_path) == find_weights(tmp_path / name) == tmp_path / name


def test_fingerprints_tell_weights_apart(tmp_path: Path) -> None:
    first, same, other = (tmp_path / name for name in "abc")
    first.write_bytes(b"weights")
    same.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    assert fingerprint(first) == fingerprint(same) != fingerprint(other)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", r"pointer of git-lfs.*git lfs pull"),
        (b"\n\n<!DOCTYPE html><html>", "it is an HTML page"),
        (b"\xef\xbb\xbf<HTML lang='en'>", "it is an HTML page"),
        (bytes(200), "nothing but zeros"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "answer of a server"),
        (b'{"error":"Repository not found"}', "answer of a server"),
        (b"", "it is empty"),
    ],
)
@pytest.mark.parametrize("ask", [read, fingerprint])
def test_a_download_that_went_wrong(tmp_path: Path, content: bytes, reason: str, ask: Callable[[Path], object]) -> None:
    """It is known as soon as the encoder is asked for, not after the slide was read."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.safetensors is not a readable checkpoint: .*{reason}.*again"):
        ask(path)
    with pytest.raises(ValueError, match=reason):
        sd.encoders.get("vit_tiny_patch16_224", weights=path)
