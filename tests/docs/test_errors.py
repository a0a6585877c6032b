"""The page of errors quotes messages that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUOTED = re.findall(r"^\*\*(.+)\*\*$", (ROOT / "docs" / "reference" / "errors.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def messages() -> str:
    """All of the code, with the pieces of long strings joined."""
    code = "".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.py")))
    return re.sub(r"[\"']\s*\n\s*f?[\"']", "", code)


@pytest.mark.parametrize("quoted", QUOTED)
def test_quoted_messages_exist(quoted: str, messages: str) -> None:
    pieces = re.split(r"…|'[^']*'|\"[^\"]*\"|\[|\]|\d[\d.]*", quoted)  # what is filled in differs
    literal = [piece.strip() for piece in pieces if len(piece.strip()) > 8]
    assert literal
    assert [piece for piece in literal if piece not in messages] == []
