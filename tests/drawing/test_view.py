from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stdistill as sd
from stdistill._drawing import view
from stdistill._drawing.view import paint, read_background, scale_bar_um
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
