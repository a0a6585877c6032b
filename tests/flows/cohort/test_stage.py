from __future__ import annotations

from pathlib import Path

import pytest

from stdistill._flows.cohort.stage import staged


def test_a_file(tmp_path: Path) -> None:
    slide = tmp_path / "a.svs"
    slide.write_text("pixels")
    with staged(slide, tmp_path / "local", owner=tmp_path / "work" / "a") as copy:
        assert copy.name == "a.svs"
        assert copy.read_text() == "pixels"
    assert list((tmp_path / "local").iterdir()) == []
    assert slide.read_text() == "pixels"


def test_mirax_has_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.mrxs").write_text("index")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Data0000.dat").write_text("pixels")
    with staged(tmp_path / "a.mrxs", tmp_path / "local", owner=tmp_path / "work" / "a") as copy:
        assert (copy.with_suffix("") / "Data0000.dat").read_text() == "pixels"
    with staged(tmp_path / "a", tmp_path / "local", owner=tmp_path / "work" / "a") as copy:  # a folder, as a bundle
        assert (copy / "Data0000.dat").read_text() == "pixels"


def test_it_is_removed_whatever_happens(tmp_path: Path) -> None:
    slide, local, owner = tmp_path / "a.svs", tmp_path / "local", tmp_path / "work" / "a"
    slide.write_text("pixels")
    with pytest.raises(KeyError), staged(slide, local, owner=owner):
        raise KeyError
    assert list(local.iterdir()) == []
    slide.unlink()
    with pytest.raises(FileNotFoundError), staged(slide, local, owner=owner):
        pytest.fail("there is no slide")
    assert list(local.iterdir()) == []


def test_what_a_kill_left_is_replaced(tmp_path: Path) -> None:
    slide, local, owner = tmp_path / "a.svs", tmp_path / "local", tmp_path / "work" / "a"
    slide.write_text("pixels")
    with staged(slide, local, owner=owner) as copy:
        (copy.parent / "left").write_text("half")
        with staged(slide, local, owner=owner) as again:
            assert [path.name for path in again.parent.iterdir()] == ["a.svs"]
        with staged(slide, local, owner=tmp_path / "other" / "a") as other:  # of another cohort
            assert other.parent != copy.parent
