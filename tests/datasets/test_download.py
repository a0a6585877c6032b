from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import stdistill as sd
from stdistill.datasets import _catalogue
from stdistill.datasets._catalogue import RemoteFile, XeniumSlide

NAME = "test_slide"
HE, ALIGNMENT, GROUPS = "S_he_image.ome.tif", "S_he_imagealignment.csv", "S_cell_groups.csv"
BUNDLE = "S_outs.zip"


class Server:
    """Files over HTTP on this machine, in the place of 10x's."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        """Names of files of which only half is sent."""
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                outer.asked.append(name)
                if name not in outer.files:
                    self.send_error(404)
                    return
                content = outer.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if name in outer.cut else content)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/S"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for name, data in files.items():
            content.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.files = {
        BUNDLE: archive({"experiment.xenium": b"{}", "cells/a.txt": b"cells"}),
        HE: b"image" * 1000,
        ALIGNMENT: b"1,0,0\n0,1,0\n0,0,1\n",
        GROUPS: b"cell_id,group\n",
    }
    yield server
    server.close()


@pytest.fixture
def catalogue(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a slide of the server's files into the catalogue."""

    def put(
        *, url: str = server.url, checksums: dict[str, str] | None = None, page: str | None = "https://page"
    ) -> None:
        known = checksums or {}
        files = tuple(RemoteFile(f"{url}/{name}", known.get(name)) for name in (BUNDLE, HE, ALIGNMENT, GROUPS))
        slide = XeniumSlide(NAME, "spleen", "healthy", reference=1, title="A slide", page=page, files=files)
        monkeypatch.setattr(_catalogue, "SLIDES", (slide,))

    put()
    return put


def download(folder: Path) -> Path:
    return sd.datasets.download(NAME, folder=folder, progress_bar=False)


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


WHOLE = [f"{NAME}/{name}" for name in (GROUPS, HE, ALIGNMENT, "cells/a.txt", "experiment.xenium")]


@pytest.mark.usefixtures("catalogue")
def test_download(server: Server, tmp_path: Path) -> None:
    folder = download(tmp_path / "new" / "slides")
    assert folder == tmp_path / "new" / "slides" / NAME
    assert files_of(folder.parent) == WHOLE
    assert (folder / HE).read_bytes() == server.files[HE]
    assert (folder / "cells" / "a.txt").read_bytes() == b"cells"
    assert server.asked == [BUNDLE, HE, ALIGNMENT, GROUPS]


@pytest.mark.usefixtures("catalogue")
def test_what_is_there_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    first = download(tmp_path)
    server.close()
    asked = list(server.asked)
    assert download(tmp_path) == first
    assert server.asked == asked


@pytest.mark.usefixtures("catalogue")
def test_older_bundles_lie_in_a_folder(server: Server, tmp_path: Path) -> None:
    server.files[BUNDLE] = archive({"outs/experiment.xenium": b"{}", "outs/cells/a.txt": b"cells", "readme": b""})
    download(tmp_path)
    assert files_of(tmp_path) == WHOLE


@pytest.mark.usefixtures("catalogue")
def test_a_slide_that_the_reader_reads(server: Server, bundle: Path, tmp_path: Path) -> None:
    he = next(bundle.glob("*he_image.ome.tif"))
    alignment = next(bundle.glob("*he_imagealignment.csv"))
    apart = {he, alignment, *bundle.glob("*cell_groups.csv")}
    inside = [path for path in bundle.rglob("*") if path.is_file() and path not in apart]
    server.files[BUNDLE] = archive({str(path.relative_to(bundle)): path.read_bytes() for path in inside})
    server.files[HE], server.files[ALIGNMENT] = he.read_bytes(), alignment.read_bytes()
    server.files[GROUPS] = next(bundle.glob("*cell_groups.csv")).read_bytes()
    sdata = sd.pp.read_xenium(download(tmp_path))
    assert sdata["table"].n_obs == 800
    assert "he" in sdata.images
    assert sdata["table"].obs["cell_type"].notna().any()


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("broken", ["cut", "missing"])
def test_goes_on_where_it_stopped(server: Server, tmp_path: Path, broken: str) -> None:
    content = server.files[HE]
    if broken == "cut":
        server.cut.add(HE)
    else:
        del server.files[HE]
    with pytest.raises(ConnectionError, match=rf"{HE} could not be downloaded.*Call again.*https://page"):
        download(tmp_path)
    assert not (tmp_path / NAME).exists()
    server.cut.clear()
    server.files[HE] = content
    server.asked.clear()
    assert (download(tmp_path) / HE).read_bytes() == content
    assert server.asked == [HE, ALIGNMENT, GROUPS]
    assert files_of(tmp_path) == WHOLE


def test_no_host(catalogue: Callable, server: Server, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(ConnectionError, match=r"could not be downloaded.*put the other two into it") as caught:
        download(tmp_path)
    assert caught.value.__cause__ is not None
    assert files_of(tmp_path) == []


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_checksums(catalogue: Callable, server: Server, tmp_path: Path, kind: str) -> None:
    right = {name: f"{kind}:{hashlib.new(kind, data).hexdigest()}" for name, data in server.files.items()}
    catalogue(checksums={**right, ALIGNMENT: f"{kind}:{'0' * len(right[HE].partition(':')[2])}"})
    with pytest.raises(ValueError, match=rf"{ALIGNMENT} is not the file that was expected.*To do so by hand"):
        download(tmp_path)
    assert not (tmp_path / NAME).exists()
    assert ALIGNMENT not in "".join(files_of(tmp_path))
    catalogue(checksums=right)
    assert files_of(download(tmp_path).parent) == WHOLE


def test_a_spoilt_file_is_downloaded_anew(catalogue: Callable, server: Server, tmp_path: Path) -> None:
    catalogue(checksums={BUNDLE: f"sha256:{hashlib.sha256(server.files[BUNDLE]).hexdigest()}"})
    parts = tmp_path / f".{NAME}.part"
    parts.mkdir()
    (parts / BUNDLE).write_bytes(b"half of it")
    download(tmp_path)
    assert files_of(tmp_path) == WHOLE


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt"])
def test_an_archive_that_leaves_its_folder(server: Server, tmp_path: Path, name: str) -> None:
    server.files[BUNDLE] = archive({"experiment.xenium": b"{}", name: b"evil"})
    folder = tmp_path / "deep" / "slides"
    with pytest.raises(ValueError, match=r"would unpack to outside of its folder.*so nothing was unpacked"):
        download(folder)
    assert not any("evil" in path.name or path.name == "experiment.xenium" for path in tmp_path.rglob("*"))
    assert not (folder / NAME).exists()


@pytest.mark.usefixtures("catalogue")
def test_what_is_no_bundle(server: Server, tmp_path: Path) -> None:
    whole = server.files[BUNDLE]
    server.files[BUNDLE] = b"<html>not found</html>"
    with pytest.raises(ValueError, match=r"S_outs.zip is no whole zip archive.*call again"):
        download(tmp_path)
    server.files[BUNDLE] = archive({"readme.txt": b""})
    with pytest.raises(ValueError, match=r"S_outs.zip holds no experiment.xenium"):
        download(tmp_path)
    assert not (tmp_path / NAME).exists()
    server.files[BUNDLE] = whole
    assert files_of(download(tmp_path).parent) == WHOLE
    assert server.asked == [BUNDLE, HE, ALIGNMENT, GROUPS, BUNDLE, BUNDLE]


@pytest.mark.usefixtures("catalogue")
def test_a_folder_of_something_else_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "experiment.xenium").write_text("{}")
    with pytest.raises(FileExistsError, match=rf"{NAME} holds no \*he_image.ome.tif and no \*he_imagealignment.csv"):
        download(tmp_path)
    assert files_of(tmp_path) == [f"{NAME}/experiment.xenium"]
    assert server.asked == []


def test_by_hand(tmp_path: Path) -> None:
    """What the message asks for is what the same call then finds."""
    with pytest.raises(FileNotFoundError) as caught:
        sd.datasets.download("liver_healthy", folder=tmp_path)
    target = tmp_path / "liver_healthy"
    page = "https://www.10xgenomics.com/datasets/human-liver-data-xenium-human-multi-tissue-and-cancer-panel-1-standard"
    for part in (page, f"Unpack the bundle to {target}", f"sd.pp.read_xenium({str(target)!r})", "non-diseased"):
        assert part in str(caught.value)
    assert not target.exists()
    target.mkdir()
    for name in ("experiment.xenium", HE, ALIGNMENT):
        (target / name).touch()
    assert sd.datasets.download("liver_healthy", folder=str(tmp_path)) == target


def test_by_hand_where_nobody_knows_the_slide(tmp_path: Path) -> None:
    message = (
        r"the human breast \(cancer\) of the paper's reference 14 from https://www.10xgenomics.com/datasets: .*380,000"
    )
    with pytest.raises(FileNotFoundError, match=message):
        sd.datasets.download("breast_cancer_2", folder=tmp_path)


@pytest.mark.usefixtures("catalogue")
def test_the_users_cache_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda app: tmp_path / app)
    assert sd.datasets.download(NAME, progress_bar=False) == tmp_path / "stdistill" / "datasets" / NAME


@pytest.mark.usefixtures("catalogue")
def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file.* cannot be made \(Not a directory\): name a folder .* with folder="):
        sd.datasets.download(NAME, folder=tmp_path / "file", progress_bar=False)


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"name='ovary' is not a public slide; there is: .*'ovary_cancer'"):
        sd.datasets.download("ovary", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
