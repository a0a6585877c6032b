from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants


@pytest.fixture
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A machine without token, weights and network, whose attempts to connect are listed."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the hub's client waits before it tries again
    attempts: list[Any] = []

    def refuse(*arguments: Any, **keywords: Any) -> None:
        attempts.append(arguments)
        msg = f"no network in tests: {arguments}"
        raise OSError(msg)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return attempts


@pytest.fixture
def uni2_h_on_disk(attempts: list[Any], tmp_path: Path) -> str:
    """UNI2-h's weights (some bytes) where the hub's client keeps what it downloaded; returns their revision."""
    commit = "c0ffee" + 34 * "0"
    folder = tmp_path / "hub" / "models--MahmoodLab--UNI2-h"
    weights = folder / "snapshots" / commit / "pytorch_model.bin"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    return "sha256-9a129038d9a00aed"
