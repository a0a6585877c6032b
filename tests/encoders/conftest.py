from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from huggingface_hub import constants
from torch import Tensor

from stdistill.encoders import Encoder, _registry
from stdistill.encoders._catalogue import CATALOGUE, UNI2_H
from stdistill.encoders._loaders import passes
from stdistill.encoders._loaders import timm as timm_loader

COMMIT = "c0ffee" + 34 * "0"
WEIGHTS = b"weights"
SMALL_UNI2_H = {**UNI2_H, "img_size": 28, "depth": 1, "embed_dim": 48, "num_heads": 3}


@pytest.fixture(autouse=True)
def none_of_ones_own(attempts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without network, and no encoders that other tests registered."""
    monkeypatch.setattr(_registry, "_own", {})


class Hub(ThreadingHTTPServer):
    """Answers as the hub does, from this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status, self.error, self.message = 200, "", ""
        self.files: dict[str, bytes] = {"pytorch_model.bin": WEIGHTS}
        self.in_git = False
        self.requests: list[tuple[str, str, str]] = []

    def fail(self, status: int, error: str = "", message: str = "") -> None:
        self.status, self.error, self.message = status, error, message


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        hub, file = self.server, self.path.rpartition("/")[2]
        hub.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
        status, error = hub.status, hub.error
        if status == 200 and file not in hub.files:
            status, error = 404, "EntryNotFound"
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        if hub.message:
            self.send_header("X-Error-Message", hub.message)
        self.send_header("X-Repo-Commit", COMMIT)
        content = hub.files.get(file, b"")
        # A file that git holds itself has git's hash; a large one, kept elsewhere, has that of its content.
        etag = hashlib.sha1(b"blob %d\0%b" % (len(content), content)) if hub.in_git else hashlib.sha256(content)
        self.send_header("ETag", f'"{etag.hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET" and status == 200:
            self.wfile.write(content)

    do_GET = do_HEAD

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, and a user who is logged in."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def small_uni2_h(monkeypatch: pytest.MonkeyPatch) -> None:
    """UNI2-h with one narrow block, under its own name."""
    uni2_h = CATALOGUE["uni2-h"]
    load = partial(
        timm_loader.load,
        "uni2-h",
        "vit_giant_patch14_224",
        arguments=SMALL_UNI2_H,
        source="MahmoodLab/UNI2-h",
        swiglu=True,
    )
    monkeypatch.setitem(CATALOGUE, "uni2-h", replace(uni2_h, load=load, dim=48, input_px=28))


@pytest.fixture
def checkpoint_of() -> Callable[[Encoder], dict[str, Tensor]]:
    """The weights of an encoder as they are distributed: the loader folds scales into them."""

    def read(encoder: Encoder) -> dict[str, Tensor]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "fold_scales", lambda network: None)
            return encoder.load().state_dict()

    return read
