from __future__ import annotations

from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest

import stdistill as sd


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Figures that were there when `pyplot.show` was called."""
    plt.close("all")  # what other tests left open
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
    with pytest.raises(ValueError, match="Format 'niches' is not supported"):
        sd.pl.niches(slide, save=tmp_path / "my.niches")
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


def test_axes_of_any_arrangement(slide: ad.AnnData) -> None:
    keys = ["teacher_niche", "student_niche", "teacher_niche_again", "student_niche_again"]
    slide.obs[keys[2:]] = slide.obs[keys[:2]].to_numpy()
    slide.obs[keys[2:]] = slide.obs[keys[2:]].astype("category")
    _, grid = plt.subplots(2, 2)
    for given in (grid, grid.flat, grid.ravel().tolist(), grid.tolist()):
        assert sd.pl.niches(slide, keys=keys, ax=given) == [*grid.flat]
    assert [ax.get_title() for ax in grid.flat] == keys


def test_a_subfigure_is_saved_with_its_figure(slide: ad.AnnData, tmp_path: Path) -> None:
    figure = plt.figure(figsize=(8, 3))
    left, _ = figure.subfigures(1, 2)
    ax = left.subplots()
    assert sd.pl.niches(slide, keys="teacher_niche", ax=ax, save=tmp_path / "niches.png") is ax
    height, width, _ = plt.imread(tmp_path / "niches.png").shape
    assert height > 100
    assert width > 100


def test_what_are_no_axes(slide: ad.AnnData) -> None:
    figure, ax = plt.subplots()
    with pytest.raises(TypeError, match="ax holds Figure; expected the axes"):
        sd.pl.niches(slide, keys="teacher_niche", ax=figure)
    with pytest.raises(TypeError, match="ax holds str"):
        sd.pl.split(sd.pp.split_strips(slide, crop_px=30, mpp=1.0, copy=True), ax="left")
    with pytest.raises(ValueError, match="ax holds 0 axes; there are 2 panels"):
        sd.pl.niches(slide, ax=np.array([]))
    with pytest.raises(ValueError, match="ax holds 2 axes; there are 1 panels"):
        sd.pl.confidence(slide, ax=[ax, ax])
    assert not ax.images


def test_panels_in_a_row_are_counted(slide: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="ncols must be at least 1, found 0"):
        sd.pl.confidence(slide, ncols=0)
    with pytest.raises(TypeError, match="ncols must be an integer, found 2"):
        sd.pl.confidence(slide, ncols=2.0)
    assert not plt.get_fignums()


def test_one_title_for_one_panel(slide: ad.AnnData) -> None:
    sd.pp.neighborhoods(slide, radius_um=40)
    composition = sd.tl.composition(slide, niche_key="teacher_niche", cell_type_key="cell_type")
    for title in ("mine", ["mine"]):
        for ax in (
            sd.pl.confusion(slide, title=title, show=False),
            sd.pl.composition(composition, title=title, show=False),
            sd.pl.neighborhood(slide, cell="3", title=title, show=False),
        ):
            assert ax.get_title() == "mine"
    with pytest.raises(ValueError, match="title holds 2 titles; there are 1 panels"):
        sd.pl.confusion(slide, title=["one", "two"])
