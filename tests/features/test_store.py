"""A store of features on disk: what in it is not as a run left it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdistill._features.store import FeatureStore, find_finished, prepare_store

FINGERPRINT: dict[str, Any] = {"image": "a", "encoders": [{"name": "texture", "revision": None}], "windows": "b"}
IDS = np.array([f"cell-{i}" for i in range(6)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished store of six cells in two windows."""
    prepare_store(tmp_path / "store", FINGERPRINT, IDS, 4, 2, resume=True)
    store = FeatureStore(tmp_path / "store")
    for window in range(2):
        store.write(window, 3 * window, np.full((3, 4), window, np.float16))
    return tmp_path / "store"


def read(folder: Path) -> np.ndarray:
    store = find_finished(folder, FINGERPRINT, IDS)
    assert store is not None
    return np.array(store.features(IDS))


def test_a_whole_one(folder: Path) -> None:
    np.testing.assert_array_equal(read(folder), np.repeat([0, 1], 3)[:, None] * np.ones((6, 4)))


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        (
            "features.npy",
            b"\x93NUMPY\x01\x00v\x00{'descr",
            r"not what a store of features has \(it is an array of numpy",
        ),
        ("features.npy", b"", "it is empty"),
        ("cell_ids.txt", b"cell-0\n", "it has 1 ids, and there are features of 6 cells"),
        ("cell_ids.txt", b"\xb5\n" * 6, "UnicodeDecodeError"),
        ("fingerprint.json", b"null", "it holds a NoneType, expected an object"),
        ("fingerprint.json", b'{"encoders": 3, "windows": ""}', r"its 'encoders' is 3 \(int\), expected list"),
        ("fingerprint.json", b'{"encoders": [3], "windows": ""}', "TypeError"),
    ],
)
def test_files_that_were_spoilt(folder: Path, file: str, content: bytes, why: str) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{re.escape(file)} is.*{why}.*give resume=False"):
        read(folder)


@pytest.mark.parametrize("matrix", [np.ones((6, 4)), np.ones(24, np.float16), np.ones((4, 6), np.float16).T])
def test_another_matrix(folder: Path, matrix: np.ndarray) -> None:
    np.save(folder / "features.npy", matrix)
    with pytest.raises(ValueError, match=r"features\.npy is not what .*expected float16 \(cells, features\) by rows"):
        read(folder)


def test_a_matrix_that_is_changed_while_it_is_written(tmp_path: Path) -> None:
    """Rows that were cut off would be zeros, and count as finished."""
    prepare_store(tmp_path / "store", FINGERPRINT, IDS, 4, 2, resume=True)
    store = FeatureStore(tmp_path / "store")
    store.write(0, 0, np.ones((3, 4), np.float16))
    matrix = tmp_path / "store" / "features.npy"
    os.truncate(matrix, matrix.stat().st_size - 30)
    with pytest.raises(OSError, match=r"features\.npy has 146 bytes in place of 176: something changed the store"):
        store.write(1, 3, np.ones((3, 4), np.float16))
    assert store.unfinished().tolist() == [1]
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(OSError, match=r"features\.npy is gone: .*give resume=False"):
        store.write(1, 3, np.ones((3, 4), np.float16))
    assert not (tmp_path / "store").exists()
