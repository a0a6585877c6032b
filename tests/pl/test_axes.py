from __future__ import annotations

from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import pytest

import stdistill as sd


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Figures that were there when `pyplot.show` was called."""
    calls: list[int] = []
    monkeypatch.setattr(plt, "show", lambda: calls.extend(plt.get_fignums()))
    return calls


def test_shown_by_default(slide: ad.AnnData, shown: list[int]) -> None:
    assert sd.pl.niches(slide) is None
    assert len(shown) == 1


def test_not_shown_on_request(slide: ad.AnnData, shown: list[int]) -> None:
    assert len(sd.pl.niches(slide, show=False)) == 2
    assert sd.pl.niches(slide, keys="teacher_niche", show=False).get_title() == "teacher_niche"
    assert not shown
    assert len(plt.get_fignums()) == 2


def test_a_saved_figure_is_not_shown_and_not_kept(slide: ad.AnnData, shown: list[int], tmp_path: Path) -> None:
    for name in ("niches.png", "niches.pdf", "niches.svg"):
        assert len(sd.pl.niches(slide, save=tmp_path / name)) == 2
        assert (tmp_path / name).stat().st_size > 1000
    assert not shown
    assert not plt.get_fignums()


def test_saved_and_shown(slide: ad.AnnData, shown: list[int], tmp_path: Path) -> None:
    assert sd.pl.niches(slide, save=str(tmp_path / "niches.png"), show=True) is None
    assert (tmp_path / "niches.png").exists()
    assert len(shown) == 1


def test_saved_and_kept(slide: ad.AnnData, shown: list[int], tmp_path: Path) -> None:
    sd.pl.niches(slide, save=tmp_path / "niches.png", show=False)
    assert len(plt.get_fignums()) == 1
    assert not shown


def test_own_axes_are_neither_shown_nor_closed(slide: ad.AnnData, shown: list[int], tmp_path: Path) -> None:
    figure, ax = plt.subplots()
    assert sd.pl.niches(slide, keys="teacher_niche", ax=ax, save=tmp_path / "niches.png") is ax
    assert not shown
    assert plt.get_fignums() == [figure.number]
