from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stdistill as sd
from stdistill._drawing import view
from stdistill._drawing.view import View, draw_cells, draw_view, make_view, paint, read_background, scale_bar_um
from stdistill._slide.affine import apply_affine


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    width=st.floats(5, 60),
    height=st.floats(5, 60),
    size=st.floats(0.1, 300),
)
def test_paint_beside_loops(seed: int, n: int, width: float, height: float, size: float) -> None:
    bounds = (3.0, 7.0, 3 + width, 7 + height)
    centers = np.random.default_rng(seed).uniform(bounds[:2], bounds[2:], (n, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "PAINT_PX", 40)
        found = paint(centers, bounds, size)
    scale = 40 / max(bounds[2] - bounds[0], bounds[3] - bounds[1])  # as rounded: discs may end on a pixel
    expected = np.full_like(found, -1)
    for number, (x, y) in enumerate(centers):
        middle = np.floor((y - 7) * scale), np.floor((x - 3) * scale)
        for row, column in np.ndindex(*expected.shape):
            if (row - middle[0]) ** 2 + (column - middle[1]) ** 2 <= (size * scale / 2) ** 2:
                expected[row, column] = number
    np.testing.assert_array_equal(found, expected)


def test_a_dot_larger_than_the_slide() -> None:
    assert (paint(np.array([[1.0, 1.0], [9.0, 9.0]]), (0.0, 0.0, 10.0, 10.0), 1e9) == 1).all()


def test_a_disc_has_its_true_area() -> None:
    painted = paint(np.array([[50.0, 50.0]]), (0.0, 0.0, 100.0, 100.0), 40.0)
    assert painted.shape == (2000, 2000)
    assert (painted == 0).mean() == pytest.approx(np.pi * 20**2 / 100**2, rel=0.01)


@pytest.mark.parametrize(
    "he_to_global",
    [np.eye(3), [[0, -1.3, 430], [1.3, 0, 5], [0, 0, 1]], [[-0.9, 0, 300], [0, 0.9, 0], [0, 0, 1]]],
    ids=["straight", "turned", "mirrored"],
)
def test_background_lies_where_the_cells_are(make_slide: Callable, he_to_global: object) -> None:
    sdata = make_slide(he_to_global=he_to_global)
    centers = sdata["table"].obsm["spatial"]
    where = sd.get.he_pixels(sdata)
    on = where["on_image"].to_numpy()
    assert on.sum() > 10
    background = read_background(sdata, "he", None, "table", (0.0, 0.0, 60.0, 60.0))
    drawn = apply_affine(np.linalg.inv(background.to_um), centers[on])
    columns, rows = np.floor(drawn + 1e-9).astype(int).T
    x, y = np.floor(where.loc[on, ["x", "y"]].to_numpy() + 1e-9).astype(int).T
    np.testing.assert_array_equal(background.pixels[rows, columns], sdata["he"].to_numpy()[:, y, x].T)


def test_background_comes_from_a_small_level(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sdata = sd.pp.read_xenium(bundle)
    x, y = sdata["table"].obsm["spatial"].T
    bounds = (x.min(), y.min(), x.max(), y.max())
    monkeypatch.setattr(view, "IMAGE_PX", 300)
    whole = read_background(sdata, "he", None, "table", bounds)
    assert 300 <= max(whole.pixels.shape) < 700
    part = read_background(sdata, "he", None, "table", (100.0, 100.0, 150.0, 150.0))
    mpp = sdata["table"].uns["stdistill"]["read_xenium"]["mpp"]
    assert max(part.pixels.shape) == pytest.approx(50 / mpp, rel=0.1)
    for background, (low_x, low_y, high_x, high_y) in ((whole, bounds), (part, (100, 100, 150, 150))):
        height, width = background.pixels.shape[:2]
        corners = apply_affine(background.to_um, np.array([(0.0, 0), (width, 0), (0, height), (width, height)]))
        assert (corners.min(axis=0) <= (low_x + 1, low_y + 1)).all()
        assert (corners.max(axis=0) >= (high_x - 1, high_y - 1)).all()


def test_background_off_the_image(make_slide: Callable) -> None:
    with pytest.raises(ValueError, match="lies off the image 'he'"):
        read_background(make_slide(), "he", None, "table", (1e4, 1e4, 2e4, 2e4))
    with pytest.raises(KeyError, match="image_key='dapi' is not an image of the SpatialData; there is: 'he'"):
        read_background(make_slide(), "dapi", None, "table", (0.0, 0.0, 60.0, 60.0))


@pytest.mark.parametrize(
    ("width", "expected"), [(30, 10), (29, 5), (600, 200), (1510, 500), (12_000, 2000), (0.5, 0.1), (3000 - 1e-12, 500)]
)
def test_scale_bar(width: float, expected: float) -> None:
    assert scale_bar_um(width) == pytest.approx(expected)


def test_painting_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    centers = np.random.default_rng(0).uniform(0, 100, (500, 2))
    whole = paint(centers, (0.0, 0.0, 100.0, 100.0), 7.0)
    monkeypatch.setattr(view, "PAINTED_AT_ONCE", 1000)
    np.testing.assert_array_equal(paint(centers, (0.0, 0.0, 100.0, 100.0), 7.0), whole)


def seen(data: object, **options: object) -> View:
    how = {"table_key": "table", "image_key": None, "crop_um": None, "size_um": None} | options
    return make_view(data, **how)  # type: ignore[arg-type]


def test_a_view_holds_its_cells_whole(make_cells: Callable) -> None:
    """The dots at the edge are not cut, and a crop shows the cells within it, its edge included."""
    cells = make_cells([[10.0, 20], [110, 20], [60, 70]])
    everything = seen(cells)
    assert everything.bounds == (5.0, 15.0, 115.0, 75.0)
    assert everything.size_um == 10.0
    assert seen(cells, size_um=40.0).bounds == (-10.0, 0.0, 130.0, 90.0)
    part = seen(cells, crop_um=(60, 0, 110, 70))
    assert part.cells.tolist() == [1, 2]
    np.testing.assert_array_equal(part.centers, [[110, 20], [60, 70]])
    assert part.bounds == (60.0, 0.0, 110.0, 70.0)
    assert part.background is None


def test_dots_are_not_lost_on_a_large_slide(make_cells: Callable) -> None:
    """At 10 µm of 20 mm they would fall between the pixels."""
    far = make_cells([[0.0, 0], [20_000, 100]])
    assert seen(far).size_um == pytest.approx(20_010 / 400)
    assert seen(far, size_um=3.0).size_um == 3.0
    assert seen(far, crop_um=(-50.0, -50.0, 50.0, 50.0)).size_um == 10.0


@pytest.mark.parametrize(
    ("crop_um", "expected"),
    [((0, 0, 100, 100), (4.5, 4.5)), ((0, 0, 100, 50), (4.5, 2.25)), ((0, 0, 10, 1000), (1.5, 4.5))],
)
def test_panels_have_the_shape_of_what_is_shown(
    make_cells: Callable, crop_um: tuple[float, ...], expected: tuple[float, float]
) -> None:
    """But for slivers, which would leave no room for a title."""
    assert seen(make_cells([[5.0, 5.0]]), crop_um=crop_um).panel_size == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [(0, 0, 10), (10, 0, 0, 10), (0, 5, 10, 5), (0, 0, np.nan, 1), "all", 7])
def test_crops_that_are_none(make_cells: Callable, wrong: object) -> None:
    with pytest.raises(ValueError, match=r"crop_um must be \(x_min, y_min, x_max, y_max\) in µm, found"):
        seen(make_cells(10), crop_um=wrong)


def test_what_cannot_be_shown(make_cells: Callable) -> None:
    cells = make_cells([[10.0, 20], [110, 70]])
    with pytest.raises(ValueError, match=r"shows no cell; the cells lie between \(5, 15\) and \(115, 75\) µm"):
        seen(cells, crop_um=(200, 200, 300, 300))
    with pytest.raises(ValueError, match=r"alpha must be at most 1, found 1\.5"):
        seen(cells, alpha=1.5)
    with pytest.raises(ValueError, match="alpha must be positive and finite, found 0"):
        seen(cells, alpha=0)
    with pytest.raises(ValueError, match="size_um must be positive and finite, found -1"):
        seen(cells, size_um=-1)
    with pytest.raises(TypeError, match="image_key='he' needs a SpatialData with that image; an AnnData holds none"):
        seen(cells, image_key="he")


def test_slides_over_one_another_are_not_drawn(make_cells: Callable) -> None:
    cells = make_cells([[10.0, 20], [110, 70]], section=pd.Categorical(["left", "right"]))
    cells.uns["spatialdata_attrs"] = {"region_key": "section"}
    with pytest.raises(
        ValueError, match=r"annotates 2 regions.*\['left', 'right'\].*adata\.obs\['section'\] == 'left'"
    ):
        seen(cells)
    assert len(seen(cells[cells.obs["section"] == "left"]).cells) == 1


def test_the_picture_lies_as_the_slide_does(make_cells: Callable) -> None:
    """y downwards, nothing but what was asked for, and a scale bar of a third of the width or less."""
    figure, ax = plt.subplots()
    shown = seen(make_cells([[100.0, 100]]), crop_um=(0, 0, 2000, 1000))
    draw_cells(ax, shown, np.array([[1.0, 0, 0, 1]]), layers=np.zeros(1))
    draw_view(ax, shown, "mine")
    assert (ax.get_xlim(), ax.get_ylim()) == ((0.0, 2000.0), (1000.0, 0.0))
    assert ax.get_title() == "mine"
    (bar,) = ax.lines
    assert np.ptp(bar.get_xdata()) == 500
    assert [text.get_text() for text in ax.texts] == ["500 µm"]
    plt.close(figure)
    figure, ax = plt.subplots()
    draw_view(ax, seen(make_cells([[100.0, 100]]), crop_um=(0, 0, 7000, 1000)), "mine")
    assert [text.get_text() for text in ax.texts] == ["2 mm"]
    plt.close(figure)
