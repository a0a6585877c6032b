from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdistill._support.files import describe_changes, digest, digest_file, replacing, replacing_folder


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    with replacing(path) as new:
        new.write_text("a")
        assert not path.exists()
    assert path.read_text() == "a"
    with pytest.raises(OSError, match="full"), replacing(path):
        raise OSError("full")
    assert path.read_text() == "a"
    assert os.listdir(path.parent) == ["table.csv"]


def test_a_folder_appears_whole_and_replaces_another(tmp_path: Path) -> None:
    for content in ("a", "b"):
        with replacing_folder(tmp_path / "model") as new:
            (new / "card").write_text(content)
    assert (tmp_path / "model" / "card").read_text() == "b"
    with pytest.raises(OSError, match="full"), replacing_folder(tmp_path / "model"):
        raise OSError("full")
    assert (tmp_path / "model" / "card").read_text() == "b"
    assert os.listdir(tmp_path) == ["model"]


def test_what_was_there_comes_back_when_the_last_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with replacing_folder(tmp_path / "model") as new:
        (new / "card").write_text("old")
    rename, calls = os.replace, []

    def fail_once(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError("stale file handle")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(OSError, match="stale"), replacing_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model" / "card").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("kind", [replacing, replacing_folder])
def test_a_full_disk_is_told_with_the_place(kind: Callable[[Path], Any], tmp_path: Path) -> None:
    """As the system does not when a file is written to: its error has a number alone."""
    said = r"model could not be written: No space .* What was there before stays"
    with pytest.raises(OSError, match=said) as caught, kind(tmp_path / "model"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_digests(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    expected = hashlib.sha256(b"ab" + "µ".encode() + array.tobytes()).hexdigest()
    assert digest(b"ab", "µ", array) == expected
    assert digest(array.T) == hashlib.sha256(array.T.tobytes()).hexdigest()  # not in the order of memory
    assert digest(np.empty((0, 3))) == digest() == hashlib.sha256().hexdigest()
    (tmp_path / "file").write_bytes(b"ab")
    assert digest_file(tmp_path / "file") == digest(b"ab")


def test_changes() -> None:
    assert describe_changes({"a": 1, "b": 2}, {"a": 1, "b": 2}) == ""
    assert describe_changes({"a": 1, "b": 2}, {"a": 3, "c": "x"}) == "a: 1, now 3, c: None, now 'x', b: 2, now None"
