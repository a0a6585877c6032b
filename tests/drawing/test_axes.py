"""Panels, titles, and what becomes of a figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from stdistill._drawing.axes import DPI, finish, make_axes, make_titles


@pytest.fixture(autouse=True)
def no_figures() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("n_panels", "ncols", "expected"), [(1, None, (1, 1)), (5, None, (1, 5)), (5, 2, (3, 2)), (2, 4, (1, 2))]
)
def test_panels_of_a_new_figure(n_panels: int, ncols: int | None, expected: tuple[int, int]) -> None:
    """Row by row, each as large as it is asked for; places that are left over are empty."""
    axes = make_axes(n_panels, ax=None, panel_size=(3.0, 2.0), ncols=ncols)
    rows, columns = expected
    (figure,) = map(plt.figure, plt.get_fignums())
    assert figure.axes == axes
    assert len(axes) == n_panels
    np.testing.assert_allclose(figure.get_size_inches(), (3.0 * columns, 2.0 * rows))
    grid = {ax.get_subplotspec().get_gridspec().get_geometry() for ax in axes}
    assert grid == {expected}
    places = [(ax.get_subplotspec().rowspan.start, ax.get_subplotspec().colspan.start) for ax in axes]
    assert places == [divmod(number, columns) for number in range(n_panels)]


def test_given_axes_open_no_figure() -> None:
    figure, grid = plt.subplots(2, 2)
    assert make_axes(4, ax=grid, panel_size=(1.0, 1.0)) == [*grid.flat]
    assert make_axes(2, ax=(grid[1, 0], grid[0, 1]), panel_size=(1.0, 1.0)) == [grid[1, 0], grid[0, 1]]
    assert plt.get_fignums() == [figure.number]


def test_titles() -> None:
    assert make_titles(None, ["a", "b"]) == ["a", "b"]
    assert make_titles("mine", ["a"]) == ["mine"]
    assert make_titles(("one", "two"), ["a", "b"]) == ["one", "two"]
    with pytest.raises(ValueError, match=r"title holds 1 titles; there are 2 panels: \['a', 'b'\]"):
        make_titles("mine", ["a", "b"])
    with pytest.raises(ValueError, match=r"title holds 0 titles; there are 1 panels"):
        make_titles([], ["a"])


def test_a_figure_is_saved_at_the_resolution_of_papers(tmp_path: Path) -> None:
    """Without its margins, and as sharp however it is shown on the screen."""
    (ax,) = make_axes(1, ax=None, panel_size=(2.0, 2.0))
    ax.plot([0, 1])
    finish([ax], ax=None, save=tmp_path / "sharp.png", show=False)
    width_in = ax.figure.get_tightbbox().width + 2 * plt.rcParams["savefig.pad_inches"]
    assert plt.imread(tmp_path / "sharp.png").shape[1] == pytest.approx(width_in * DPI, abs=3)


def test_a_figure_that_cannot_be_saved_is_not_kept(tmp_path: Path) -> None:
    axes = make_axes(2, ax=None, panel_size=(1.0, 1.0))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        finish(axes, ax=None, save=tmp_path / "nowhere" / "figure.png", show=None)
    assert not plt.get_fignums()
    (own,) = make_axes(1, ax=None, panel_size=(1.0, 1.0))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        finish([own], ax=own, save=tmp_path / "nowhere" / "figure.png", show=None)
    assert len(plt.get_fignums()) == 1  # the user's stays open


def test_what_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append("shown"))
    axes = make_axes(2, ax=None, panel_size=(1.0, 1.0))
    assert finish(axes, ax=None, save=None, show=False) == axes
    assert finish(axes[:1], ax=None, save=None, show=False) is axes[0]
    assert finish(axes, ax=axes, save=None, show=None) == axes
    assert not shown
    assert finish(axes, ax=axes, save=None, show=True) is None
    assert finish(axes, ax=None, save=None, show=None) is None
    assert len(shown) == 2
