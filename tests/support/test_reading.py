from __future__ import annotations

import errno
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from stdistill._support.reading import find_visible, read_json, reading

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def parquet(path: Path) -> None:
    pd.DataFrame({"x": np.arange(1000)}).to_parquet(path)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "b" * 1000)


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(1000)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (LFS.encode(), r"it is a pointer of git-lfs, not the file itself\): fetch the file with 'git lfs pull'"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html>Sign in", r"it is an HTML page.*\): download it again, logged in"),
        (b"<HTML><body>404", "it is an HTML page"),
        (b"\0" * 5000, "it holds nothing but zeros"),
        (b"\x89PNG\r\n\x1a\n\0\0", "it is a PNG; JSONDecodeError|it is a PNG; UnicodeDecodeError"),
        (b'{"a": 1', r"JSONDecodeError: Expecting.*\): copy it again\."),
    ],
    ids=["empty", "git-lfs", "html-bom", "html", "zeros", "another kind", "cut off"],
)
def test_what_the_bytes_tell(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "specs.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=why) as error, reading(path, "is no JSON"):
        json.loads(path.read_text())
    assert str(error.value).startswith(f"{path} is no JSON (")
    assert error.value.__cause__ is not None


@pytest.mark.parametrize("write", [parquet, archive])
def test_files_that_end_too_early(tmp_path: Path, write: object) -> None:
    path = tmp_path / "file"
    write(path)  # type: ignore[operator]
    path.write_bytes(path.read_bytes()[:-20])
    read = pd.read_parquet if write is parquet else zipfile.ZipFile
    with (
        pytest.raises(ValueError, match=r"file is no table \(it ends too early\): copy it again\."),
        reading(path, "is no table"),
    ):
        read(path)


def test_a_truncated_hdf5(tmp_path: Path) -> None:
    hdf5(tmp_path / "m.h5")
    (tmp_path / "m.h5").write_bytes((tmp_path / "m.h5").read_bytes()[:3000])
    with (
        pytest.raises(
            ValueError, match=r"m\.h5 is no matrix \(it is an HDF5 file; OSError: .*truncated.*copy it again"
        ),
        reading(tmp_path / "m.h5", "is no matrix"),
    ):
        h5py.File(tmp_path / "m.h5")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"There is no table .*nowhere\.csv\."),
        reading(tmp_path / "nowhere.csv", "is no table", missing="table"),
    ):
        pass
    with (
        pytest.raises(FileNotFoundError, match=r"is a folder; expected a table"),
        reading(tmp_path, "is no table", missing="table"),
    ):
        pass


def test_what_the_system_does_not_let_us_read(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with (
        pytest.raises(PermissionError, match=r"a cannot be read \(Permission denied\): check"),
        reading(tmp_path / "a", "is no table"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_what_is_no_fault_of_the_file_passes(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for error in (KeyboardInterrupt, MemoryError):
        with pytest.raises(error), reading(tmp_path / "a", "is no table"):
            raise error


def test_hidden_files_are_not_found(tmp_path: Path) -> None:
    for name in ("a.csv", "._a.csv", ".b.csv", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_visible(tmp_path, "*.csv")] == ["a.csv"]


def test_objects_of_json(tmp_path: Path) -> None:
    path, entries = tmp_path / "run.json", {"command": str, "n": (int, type(None))}
    path.write_text('{"command": "run", "n": null, "more": [1]}')
    assert read_json(path, "is no record", entries=entries) == {"command": "run", "n": None, "more": [1]}
    for content, why in {
        "[1]": r"ValueError: it holds a list, expected an object",
        '{"n": 1}': r"its 'command' is missing, expected str",
        '{"command": "run", "n": true}': r"its 'n' is True \(bool\), expected int or nothing",
        '{"command": "run", "n": 1.5}': r"its 'n' is 1\.5 \(float\)",
        "[" * 100_000: "RecursionError",
    }.items():
        path.write_text(content)
        with pytest.raises(ValueError, match=rf"run\.json is no record \(.*{why}.*\): remove it\."):
            read_json(path, "is no record", entries=entries, advice="remove it")
