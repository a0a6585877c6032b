from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anndata as ad
import numpy as np
import pytest
from huggingface_hub import constants

import stdistill as sd


class Repository:
    """Commits, each with all of its files."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, bytes]] = {}
        self.gated = self.private = False

    def commit(self, files: dict[str, bytes]) -> str:
        before = self.commits[self.find("main")] if self.commits else {}
        oid = hashlib.sha1(json.dumps([len(self.commits), *sorted(files)]).encode()).hexdigest()
        self.commits[oid] = before | files
        return oid

    def find(self, revision: str) -> str:
        return [*self.commits][-1] if revision == "main" and self.commits else revision


class Hub(ThreadingHTTPServer):
    """Answers as the Hugging Face hub does, as far as its client asks for models, from this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        """Files by their SHA-256, as they were put beside git."""
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> list[str]:
        return [path.rpartition("/")[2] for method, path in self.requests if method == "GET" and "/resolve/" in path]


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path))
        self.server.tokens.add(self.headers.get("Authorization", ""))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for pattern, answer in ROUTES:
            if found := re.fullmatch(pattern, path):
                answer(self, *found.groups())
                return
        self.send(404)

    do_GET = do_HEAD = do_POST = do_PUT = do

    def log_message(self, *_: Any) -> None:
        pass

    def send(self, status: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def find(self, name: str, revision: str = "main") -> tuple[str, dict[str, bytes]] | None:
        repository = self.server.repositories.get(name)
        if repository is None:
            self.send(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif repository.gated:
            self.send(403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        elif (oid := repository.find(revision)) not in repository.commits:
            self.send(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
        else:
            return oid, repository.commits[oid]
        return None

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] == "others":
            self.send(403, {"error": "You don't have the rights"})
        elif name in self.server.repositories:
            self.send(409, {"error": "You already created this model repo", "url": f"{self.server.address}/{name}"})
        else:
            repository = self.server.repositories[name] = Repository()
            repository.private = asked.get("private") or asked.get("visibility") == "private"
            self.send(200, {"url": f"{self.server.address}/{name}"})

    def check_front_matter(self) -> None:
        self.send(200, {"errors": [], "warnings": []})

    def preupload(self, name: str) -> None:
        files = json.loads(self.body)["files"]
        modes = [{"path": each["path"], "shouldIgnore": False} for each in files]
        for each in modes:
            each["uploadMode"] = "lfs" if str(each["path"]).endswith(".safetensors") else "regular"
        self.send(200, {"files": modes})

    def batch(self, name: str) -> None:
        objects = json.loads(self.body)["objects"]
        for each in objects:
            each["actions"] = {"upload": {"href": f"{self.server.address}/large/{each['oid']}", "header": {}}}
        self.send(200, {"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        self.server.large[oid] = self.body
        self.send(200)

    def commit(self, name: str) -> None:
        files = {}
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        oid = self.server.repositories[name].commit(files)
        url = f"{self.server.address}/{name}/commit/{oid}"
        self.send(200, {"success": True, "commitOid": oid, "commitUrl": url})

    def info(self, name: str, revision: str | None) -> None:
        if found := self.find(name, revision or "main"):
            siblings = [{"rfilename": path} for path in found[1]]
            self.send(200, {"id": name, "modelId": name, "sha": found[0], "siblings": siblings, "tags": []})

    def tree(self, name: str, revision: str) -> None:
        if found := self.find(name, revision):
            rows = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in found[1].items()
            ]
            self.send(200, rows)

    def resolve(self, name: str, revision: str, path: str) -> None:
        if found := self.find(name, revision):
            if path not in found[1]:
                self.send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=found[0])
                return
            content = found[1][path]
            self.send(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=found[0])


MODEL = "([^/]+/[^/]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    ("/api/repos/create", _Answer.create),
    ("/api/validate-yaml", _Answer.check_front_matter),
    (f"/api/models/{MODEL}/preupload/main", _Answer.preupload),
    (f"/{MODEL}.git/info/lfs/objects/batch", _Answer.batch),
    ("/large/(.+)", _Answer.put),
    (f"/api/models/{MODEL}/commit/main", _Answer.commit),
    (f"/api/models/{MODEL}(?:/revision/(.+))?", _Answer.info),
    (f"/api/models/{MODEL}/tree/([^/]+)", _Answer.tree),
    (f"/{MODEL}/resolve/([^/]+)/(.+)", _Answer.resolve),
]


@pytest.fixture(autouse=True)
def nowhere_else(attempts: list[Any]) -> None:
    """Refuse connections to other machines."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, and a user who is logged in."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    """Two regions that features tell apart, a third of them for testing, and cell types."""
    rng = np.random.default_rng(0)
    adata = ad.AnnData(np.zeros((2400, 1)), obsm={"spatial": rng.uniform(0, 850, (2400, 2))})
    left = adata.obsm["spatial"][:, 0] < 350
    adata.obsm["X_he"] = np.c_[adata.obsm["spatial"] / 100, rng.normal(size=(2400, 4))].astype("float16")
    adata.obs["region"] = np.where(left, "tumour", "stroma | <b>bold</b>")
    adata.obs["split"] = np.where(adata.obsm["spatial"][:, 1] < 600, "train", "test")
    adata.obs["cell_type"] = np.where(rng.random(2400) < np.where(left, 0.8, 0.1), "epithelial", "fibroblast")
    for column in ("region", "cell_type"):
        adata.obs[column] = adata.obs[column].astype("category")
    return adata


@pytest.fixture(scope="module")
def fitted(cells: ad.AnnData, narrow: dict[str, int]) -> sd.models.NicheModel:
    return sd.tl.distill(cells, teacher_key="region", max_epochs=3, patience=5, progress_bar=False)


@pytest.fixture
def make_student(fitted: sd.models.NicheModel) -> Callable[..., sd.models.NicheModel]:
    """A student of features of some encoder."""
    from dataclasses import replace

    def make(encoder: str | None = "uni2-h", licence: str | None = "CC-BY-NC-ND-4.0", **entries: Any) -> Any:
        known = {"encoder_revision": "sha256-9a129038d9a00aed", "mpp": 0.5, "crop_px": 112}
        card = replace(fitted.card, encoder=encoder, encoder_licence=licence, **(known | entries))
        model = sd.models.NicheModel(fitted.network, card, fitted.history, fitted.usual, fitted.seen)
        model.known_sha256 = fitted.known_sha256
        return model

    return make
