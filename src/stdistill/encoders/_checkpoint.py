"""Weights from files: only tensors are read, nothing is unpickled, and every one must fit."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from stdistill._support.checks import some
from stdistill._support.files import digest_file
from stdistill._support.reading import find_fault

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Files of weights in a repository of the hub, and in a copy of one; the first that is there is read."""
FINGERPRINT = "sha256-"
"""With this begins a hash of weights that is recorded as their revision."""
AN_ANSWER = (b"<?xml", b'{"error')
"""How the answer of a server that did not give the weights begins."""
SHOWN = 3
"""Names that an error lists."""


def find_weights(path: Path) -> Path:
    """Return the file of weights that `path` is or, for a folder, holds."""
    if path.is_file():
        return path
    if not path.is_dir():
        msg = f"There is no file or folder of weights at {path}."
        raise FileNotFoundError(msg)
    for name in WEIGHT_FILES:
        if (path / name).is_file():
            return path / name
    there = some(sorted(entry.name for entry in path.iterdir()), SHOWN) or "nothing"
    msg = f"The folder {path} holds no {' and no '.join(WEIGHT_FILES)}, but {there}. Name the file of weights itself."
    raise FileNotFoundError(msg)


def fingerprint(path: Path) -> str:
    """Hash a file of weights, so that features of other weights are told apart; about a second per GB."""
    check_begin(path)
    return as_fingerprint(digest_file(path))


def check_begin(path: Path) -> None:
    """Raise a `ValueError` when the file holds no weights, as its bytes tell."""
    with path.open("rb") as file:
        begin = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    fault = find_fault(path)
    what = None if fault is None or not fault.advice else f"{fault.what} ({fault.advice})"
    if begin.startswith(AN_ANSWER):
        what = "it is the answer of a server that did not give the weights"
    if what is not None:
        msg = f"{path} is not a readable checkpoint: {what}. Download or copy the file of weights again."
        raise ValueError(msg)


def as_fingerprint(sha256: str) -> str:
    """Shorten a hash of weights to what is recorded."""
    return f"{FINGERPRINT}{sha256[:16]}"


def read(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint (.safetensors, or what `torch.save` writes), refusing all that is not tensors."""
    import torch
    from safetensors import SafetensorError
    from timm.models import load_state_dict

    check_begin(path)
    try:
        state = load_state_dict(str(path), weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, SafetensorError, EOFError, ValueError, AttributeError) as error:
        # torch and timm advise to unpickle with weights_only=False, which would run code from the file.
        reason = str(error).partition("\n")[0].partition("weights_only=True blocked")[0].strip()
        msg = (
            f"{path} is not a readable checkpoint of tensors alone{f' ({reason})' if reason else ''}. Expected a "
            ".safetensors file, or a dictionary of tensors that torch.save wrote; nothing else is unpickled, because "
            "a pickle can run any code."
        )
        raise ValueError(msg) from error
    wrong = [str(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if wrong or not state:
        msg = f"{path} holds {some(wrong, SHOWN) or 'nothing'} where only named tensors were expected."
        raise ValueError(msg)
    return state


def load_into(build: Callable[[], nn.Module], path: Path, *, name: str, ignored: Collection[str] = ()) -> nn.Module:
    """Build a module and give it the weights of a checkpoint, every one of which must fit.

    `ignored` names submodules, such as a classifier, that the checkpoint may hold and the module does not.
    """
    import torch

    state = read(path)
    with torch.device("meta"):  # no time is spent on initial values that are replaced at once
        network = build()
    if {key for key, _ in network.named_buffers()} - set(network.state_dict()):
        network = build()  # it has buffers that no checkpoint holds
    state = {key: value for key, value in state.items() if not key.startswith(tuple(f"{part}." for part in ignored))}
    check_fit(network, state, path, name=name)
    network.load_state_dict(state, assign=True)
    return network.float()


def check_fit(network: nn.Module, state: dict[str, Tensor], path: Path, *, name: str) -> None:
    """Raise a `ValueError` unless the checkpoint holds exactly the module's weights."""
    expected = network.state_dict()
    problems = []
    if missing := [key for key in expected if key not in state]:
        problems.append(f"{len(missing)} weights are missing ({some(missing, SHOWN)})")
    if unexpected := [key for key in state if key not in expected]:
        problems.append(f"{len(unexpected)} are not of this architecture ({some(unexpected, SHOWN)})")
    other_shapes = [
        f"{key}: {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if other_shapes:
        problems.append(f"{len(other_shapes)} have another shape ({some(other_shapes, SHOWN)})")
    if problems:
        msg = f"{path} does not hold the weights of {name!r}: {'; '.join(problems)}. Is it of another architecture?"
        raise ValueError(msg)
