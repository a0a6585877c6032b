from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely

from stdistill._nuclei.nuclei import Nuclei, join_nuclei
from stdistill._nuclei.store import NucleusStore

FINGERPRINT = {"image": "abc", "mpp": 0.25, "method": "unet"}


def two_nuclei() -> Nuclei:
    polygons = np.array([shapely.box(0, 0, 4, 3), shapely.Polygon([(9, 9), (12, 9), (10, 14.5)])])
    one, two = np.ones(2), np.arange(2.0)
    return Nuclei(polygons, shapely.get_coordinates(shapely.centroid(polygons)), 3 * one, two / 2, one, two + 1)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with NucleusStore.opened(tmp_path / "deep" / "store", FINGERPRINT, resume=True) as store:
        assert store.finished() == set()
        store.write(12, two_nuclei())
        store.write(3, join_nuclei([]))
    with NucleusStore.opened(tmp_path / "deep" / "store", FINGERPRINT, resume=True) as store:
        assert store.finished() == {3, 12}
        assert len(store.read(3)) == 0
        read = store.read(12)
    assert shapely.equals_exact(read.polygons, two_nuclei().polygons).all()
    for name in ("centroids", "area_um2", "eccentricity", "solidity", "haematoxylin"):
        np.testing.assert_array_equal(getattr(read, name), getattr(two_nuclei(), name))


def test_a_tile_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: object, **_: object) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    with NucleusStore.opened(tmp_path / "store", FINGERPRINT, resume=True) as store:
        monkeypatch.setattr(np, "savez", fail)
        with pytest.raises(OSError, match="No space"):
            store.write(0, two_nuclei())
        assert store.finished() == set()


def test_a_store_of_something_else_is_kept(tmp_path: Path) -> None:
    with NucleusStore.opened(tmp_path / "store", FINGERPRINT, resume=True) as store:
        store.write(0, two_nuclei())
    other = FINGERPRINT | {"mpp": 0.5}
    with (
        pytest.raises(ValueError, match=r"mpp: 0\.25, now 0\.5.*resume=False"),
        NucleusStore.opened(tmp_path / "store", other, resume=True),
    ):
        pass
    assert store.finished() == {0}
    with NucleusStore.opened(tmp_path / "store", other, resume=False) as afresh:
        assert afresh.finished() == set()


def test_a_folder_of_others_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    for resume in (True, False):
        opened = NucleusStore.opened(tmp_path, FINGERPRINT, resume=resume)
        with pytest.raises(FileExistsError, match="no store of nuclei"), opened:
            pass
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_two_processes_do_not_share_a_store(tmp_path: Path) -> None:
    first, second = (NucleusStore.opened(tmp_path / "store", FINGERPRINT, resume=True) for _ in range(2))
    with first, pytest.raises(BlockingIOError, match="Another process writes"), second:
        pass


def test_what_was_spoilt(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with NucleusStore.opened(folder, FINGERPRINT, resume=True) as store:
        store.write(0, two_nuclei())
        whole = (folder / "000000.npz").read_bytes()
        (folder / "000000.npz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=r"000000\.npz is not what a store of nuclei has .*resume=False"):
            store.read(0)
        np.savez(folder / "000000.npz", outlines=np.zeros((8, 2)), places=np.zeros(8, int))
        with pytest.raises(
            ValueError, match=r"000000\.npz is not what a store of nuclei has .*is not a file in the archive"
        ):
            store.read(0)
    (folder / "fingerprint.json").write_text("null")
    with (
        pytest.raises(ValueError, match=r"fingerprint\.json is not what a store of nuclei has .*NoneType"),
        NucleusStore.opened(folder, FINGERPRINT, resume=True),
    ):
        pass
