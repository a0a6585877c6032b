from __future__ import annotations

import gzip
import warnings
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from stdistill._formats.text import open_text, read_csv

TEXT = 'name,größe\n"Störung, klein",1.5\nµm,2\n'
FRAME = pd.DataFrame({"name": ["Störung, klein", "µm"], "größe": [1.5, 2.0]})


def read(path: Path) -> str:
    with open_text(path, "is no text") as text:
        return text.read()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT.encode(encoding))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(path) == TEXT
        pd.testing.assert_frame_equal(read_csv(path, "is no table"), FRAME)


def test_windows_is_read_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT.encode("cp1252"))
    with pytest.warns(UserWarning, match=r"a\.csv is not encoded in UTF-8 and was read as Windows-1252"):
        assert read(path) == TEXT


def test_a_letter_on_the_border_of_two_blocks(tmp_path: Path) -> None:
    """The encoding is found block by block."""
    text = "a" * ((1 << 20) - 1) + "ö" + "b" * 10
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert read(tmp_path / "a.txt") == text


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.zip"])
def test_compression_is_told_by_the_bytes(tmp_path: Path, name: str) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    with zipfile.ZipFile(tmp_path / "zipped", "w") as file:
        file.writestr("folder/a.csv", TEXT)
        file.writestr("__MACOSX/folder/._a.csv", "\0")
    for source in ("packed", "zipped"):
        path = tmp_path / name
        path.write_bytes((tmp_path / source).read_bytes())
        assert read(path) == TEXT


def test_archives_of_several_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.csv", TEXT)
        file.writestr("b.csv", TEXT)
    with pytest.raises(ValueError, match=r"a\.zip is no text .*should hold one file; it holds \['a\.csv', 'b\.csv'\]"):
        read(tmp_path / "a.zip")


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode() * 1000)[:-30])
    with pytest.raises(ValueError, match=r"a\.csv\.gz is no table .*EOFError.*copy it again"):
        read_csv(path, "is no table")
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0")
    with pytest.raises(ValueError, match=r"is no table \(it is a PNG; ValueError: it is no text"):
        read_csv(path, "is no table")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"is no table \(it is empty\)"):
        read_csv(path, "is no table")
    path.write_text("a,b\n1,2\n1,2,3,4\n")
    with pytest.raises(ValueError, match=r"a\.csv\.gz is no table \(ParserError"):
        read_csv(path, "is no table")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_and_comments(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "a.csv"
    rows = [["cell_id", "group"], ["a", "T cells, few"], ["b", "#1"]]
    lines = [separator.join(f'"{each}"' for each in row) for row in rows]
    path.write_text("#Selection name: 1; 2; 3\n#Area (µm^2): 3\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    frame = read_csv(path, "is no table", dtype=str)
    assert frame.to_dict("list") == {"cell_id": ["a", "b"], "group": ["T cells, few", "#1"]}


def test_what_excel_writes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=;\ncell_id;group \na;1\n", encoding="utf-16")
    assert read_csv(tmp_path / "a.csv", "is no table").columns.tolist() == ["cell_id", "group"]


def test_what_would_fill_the_memory(tmp_path: Path) -> None:
    """A file of 80 kB that is 300 MB is counted block by block, and never unpacked as a whole."""
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"0,1,2\n" * 1_000_000) * 50)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match=r"a\.csv\.gz is no table \(.*it unpacks to more than 200 times its size"):
        read_csv(path, "is no table")
