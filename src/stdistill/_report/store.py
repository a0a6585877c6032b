"""Where the files of a report go: into its folder, or, as data, into the page itself."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Protocol

TYPES = {"jpg": "image/jpeg", "png": "image/png", "js": "text/javascript"}


class Store(Protocol):
    """Takes files, and says how a page names them."""

    inline: dict[str, str]
    """What is in the page itself, by path."""

    def write(self, path: str, content: bytes) -> None:
        """Keep a file."""

    def link(self, path: str) -> str:
        """Return the address of a file that was written, as a page names it."""


class FolderStore:
    """Files in a folder, beside the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inline: dict[str, str] = {}

    def write(self, path: str, content: bytes) -> None:
        """Write a file."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def link(self, path: str) -> str:
        """Return its relative address."""
        return path


class InlineStore:
    """Files within the page."""

    def __init__(self) -> None:
        self.inline: dict[str, str] = {}
        self._images: dict[str, str] = {}

    def write(self, path: str, content: bytes) -> None:
        """Keep a file as a data address; tiles and cells are looked up by path, pictures stand where they are shown."""
        address = f"data:{TYPES[path.rsplit('.', 1)[1]]};base64,{base64.b64encode(content).decode()}"
        (self.inline if "/" in path else self._images)[path] = address

    def link(self, path: str) -> str:
        """Return its content as an address."""
        return self._images[path]
