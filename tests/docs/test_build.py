"""The documentation builds without a warning, has every public name, and no link in it is dead."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

import stdistill as sd
from stdistill._cli import main

ROOT = Path(__file__).parents[2]
NAMESPACES = ("pp", "tl", "pl", "get", "io", "models", "encoders", "datasets")
PUBLIC = [f"stdistill.{space}.{name}" for space in NAMESPACES for name in getattr(sd, space).__all__]


class Page(HTMLParser):
    """Collects the links and the targets of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.targets: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.targets |= {value for value in (given.get("id"), given.get("name")) if value}
        self.links |= {value for value in (given.get("href"), given.get("src")) if value}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(folder / "doctrees")]
    built = subprocess.run([*command, str(ROOT / "docs"), str(folder / "html")], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_in_the_reference(site: Path, pages: dict[Path, Page], name: str) -> None:
    page = pages[site / "reference" / "generated" / f"{name}.html"]
    assert name in page.targets
    namespace = name.split(".")[1]
    assert f"{name}.html" in {
        urlsplit(link).path for link in pages[site / "reference" / "generated" / f"{namespace}.html"].links
    }


def test_methods_of_models_are_in_the_reference(site: Path, pages: dict[Path, Page]) -> None:
    methods = {"NicheModel": ("save", "load", "predict", "radius_um"), "CompositionModel": ("save", "load", "predict")}
    for model, names in methods.items():
        page = pages[site / "reference" / "generated" / f"stdistill.models.{model}.html"]
        assert page.targets >= {f"stdistill.models.{model}.{name}" for name in names}


def test_every_encoder_and_command_is_in_the_reference(site: Path) -> None:
    encoders = (site / "reference" / "encoders.html").read_text()
    assert all(name in encoders for name in [*sd.encoders.list().index, "CC-BY-NC-ND-4.0"])
    commands = (site / "reference" / "command_line.html").read_text()
    assert all(f'id="stdistill-{name}"' in commands for name in main.list_commands(click.Context(main)))


def test_no_link_is_dead(site: Path, pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[target].targets if target in pages else set()
            if not target.exists() or (parts.fragment and known and unquote(parts.fragment) not in known):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert not dead


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_no_link_of_the_repository_is_dead(name: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    relative = [link.split("#")[0] for link in links if not urlsplit(link).scheme and not link.startswith("#")]
    assert [link for link in relative if not (ROOT / link).exists()] == []
