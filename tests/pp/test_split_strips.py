from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import spatialdata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spatialdata.models import Image2DModel

import stdistill as sd
from stdistill._slide.plan import crop_origins


def test_strips_by_hand(make_cells: Callable) -> None:
    y = np.array([0.0, 99, 101, 149, 199, 201, 300, 400])
    cells = make_cells(np.c_[np.zeros(8), y])
    sd.pp.split_strips(cells, crop_px=10, mpp=1.0)
    # Borders at 100 and 200; crops reach 5 px to both sides.
    expected = ["train", "buffer", "buffer", "test", "buffer", "buffer", "train", "train"]
    assert cells.obs["split"].tolist() == expected
    assert cells.obs["split"].cat.categories.tolist() == ["train", "test", "buffer"]
    record = cells.uns["stdistill"]["split_strips"]
    assert (record["share_train"], record["share_test"], record["share_buffer"]) == (3 / 8, 1 / 8, 4 / 8)


@pytest.mark.parametrize(("test_strip", "tested"), [(0, [0, 1]), (1, [2, 3]), (2, [4, 5]), (3, [6, 7])])
def test_strips_are_counted_from_the_top(make_cells: Callable, test_strip: int, tested: list[int]) -> None:
    cells = make_cells(np.c_[np.zeros(8), [0.0, 20, 30, 45, 55, 70, 80, 100]])
    sd.pp.split_strips(cells, test_strip=test_strip, crop_px=2, mpp=1.0)
    assert np.flatnonzero(cells.obs["split"] == "test").tolist() == tested


def test_the_outermost_strip_has_one_border(make_cells: Callable) -> None:
    cells = make_cells(np.c_[np.zeros(101), np.arange(101.0)])
    sd.pp.split_strips(cells, test_strip=0, crop_px=10, mpp=1.0)
    buffer = np.flatnonzero(cells.obs["split"] == "buffer")
    assert buffer.min() > 15
    assert buffer.max() < 35


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angle=st.floats(0, 2 * np.pi),
    scale=st.floats(0.3, 4),
    shift=st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)),
    mirror=st.booleans(),
    crop_px=st.integers(1, 300),
    n_strips=st.integers(2, 6),
    test_strip=st.integers(0, 5),
    mpp=st.none() | st.floats(0.1, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_crops_of_train_and_test_share_no_pixel(
    make_slide: Callable,
    angle: float,
    scale: float,
    shift: tuple[float, float],
    mirror: bool,
    crop_px: int,
    n_strips: int,
    test_strip: int,
    mpp: float | None,
    seed: int,
) -> None:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([-1.0 if mirror else 1.0, 1, 1])
    corners = np.array([[0, 0], [0, 400], [400, 0], [400, 400]]) / 0.2125
    on_he = corners @ np.linalg.inv(matrix[:2, :2]).T
    # The image reaches from somewhere left of and above the cells to somewhere right of and below them.
    matrix[:2, 2] = matrix[:2, :2] @ (on_he.min(axis=0) - shift)
    shape = tuple((np.ptp(on_he, axis=0) + 2 * np.array(shift)).astype(int)[::-1] + 2)
    slide = make_slide(80, he_to_global=matrix, shape=shape, extent=400.0, seed=seed)
    try:
        sd.pp.split_strips(slide, crop_px=crop_px, n_strips=n_strips, test_strip=test_strip % n_strips, mpp=mpp)
    except ValueError as error:
        assert "cell is left" in str(error)  # noqa: PT017 (crops too large for this slide are refused)
        return
    pixels = sd.get.he_pixels(slide)
    side = crop_px if mpp is None else max(1, round(crop_px * mpp / pixels["mpp"].iloc[0]))
    rows = crop_origins(pixels[["x", "y"]].to_numpy(), side)[:, 1]
    split = slide["table"].obs["split"].to_numpy()
    train, test = rows[split == "train"], rows[split == "test"]
    # Rows [a, a + side) and [b, b + side) are disjoint when a and b are at least a crop apart.
    assert np.abs(train[:, None] - test[None, :]).min() >= side


def test_about_two_percent_are_buffer_at_the_size_of_the_paper(make_cells: Callable) -> None:
    """20,500 pixels of 0.274 µm, crops of 224 px, two borders: 2 × 224 / 20,500 = 2.2 %."""
    cells = make_cells(100_000, extent=20_500 * 0.274)
    sd.pp.split_strips(cells, mpp=0.274)
    shares = cells.obs["split"].value_counts(normalize=True)
    assert shares["buffer"] == pytest.approx(0.022, abs=0.002)
    assert shares["test"] == pytest.approx(0.24, abs=0.01)


def test_strips_lie_in_the_frame_of_the_he(make_slide: Callable) -> None:
    quarter_turn = np.array([[0, 1.0, 0], [-1.0, 0, 300], [0, 0, 1]])
    slide = make_slide(np.c_[np.linspace(0, 60, 100), np.full(100, 30.0)], he_to_global=quarter_turn, shape=(400, 400))
    sd.pp.split_strips(slide, crop_px=4)
    # H&E rows run along x of the slide: all cells have one y there, and the strips still part them.
    assert np.flatnonzero(slide["table"].obs["split"] == "test").min() > 20
    assert (slide["table"].obs["split"] == "train").sum() > 60


def test_slides_of_a_table_are_cut_apart(make_cells: Callable) -> None:
    y = np.r_[np.arange(0.0, 100), np.arange(1000.0, 1100)]
    cells = make_cells(np.c_[np.zeros(200), y], slide=["a"] * 100 + ["b"] * 100)
    sd.pp.split_strips(cells, crop_px=2, mpp=1.0, library_key="slide")
    split = cells.obs["split"].to_numpy()
    np.testing.assert_array_equal(split[:100], split[100:])


def test_copy(make_slide: Callable) -> None:
    slide = make_slide()
    copied = sd.pp.split_strips(slide, crop_px=4, copy=True)
    assert "split" in copied["table"].obs
    assert "split" not in slide["table"].obs


def test_bad_arguments(make_cells: Callable, make_slide: Callable) -> None:
    cells = make_cells(100)
    with pytest.raises(ValueError, match="n_strips must be at least 2, found 1"):
        sd.pp.split_strips(cells, n_strips=1, mpp=1.0)
    with pytest.raises(ValueError, match="test_strip must be at least 0 and at most 3, found 4"):
        sd.pp.split_strips(cells, test_strip=4, mpp=1.0)
    with pytest.raises(ValueError, match="no H&E whose pixels could be cut into strips"):
        sd.pp.split_strips(cells)
    with pytest.raises(KeyError, match="library_key='slide' is not a column"):
        sd.pp.split_strips(cells, mpp=1.0, library_key="slide")
    with pytest.raises(ValueError, match="key_added must be a name of letters"):
        sd.pp.split_strips(cells, mpp=1.0, key_added="a/b")
    with pytest.raises(KeyError, match="image_key='HE' is not an image"):
        sd.pp.split_strips(make_slide(), image_key="HE")
    with pytest.raises(KeyError, match="table_key='cells' is not a table"):
        sd.pp.split_strips(make_slide(), table_key="cells")


def test_images_that_are_no_he(make_slide: Callable, make_cells: Callable) -> None:
    """A slide read with its morphology alone is cut along y of the centres, as its table would be."""
    slide, cells = make_slide(300), make_cells(300, extent=60.0)
    slide.images["morphology_focus"] = Image2DModel.parse(np.zeros((4, 20, 20), np.uint16), dims=("c", "y", "x"))
    del slide.images["he"]
    sd.pp.split_strips(slide, crop_px=8, mpp=0.25)
    sd.pp.split_strips(cells, crop_px=8, mpp=0.25)
    assert slide["table"].obs["split"].tolist() == cells.obs["split"].tolist()
    with pytest.raises(ValueError, match=r"no H&E whose pixels could be cut into strips\. Give mpp="):
        sd.pp.split_strips(slide)
    with pytest.raises(KeyError, match=r"image_key='HE' is not an image.*'morphology_focus'"):
        sd.pp.split_strips(slide, mpp=0.25, image_key="HE")


def test_an_he_of_another_name_is_not_passed_over(make_slide: Callable) -> None:
    """Strips along y of the centres could cross the crops of an H&E that lies at an angle."""
    slide = make_slide()
    slide.images["HE"] = slide.images.pop("he")
    with pytest.raises(KeyError, match=r"image_key='he' is not an image.*'HE'.*image_key="):
        sd.pp.split_strips(slide, crop_px=4, mpp=0.2125)
    sd.pp.split_strips(slide, crop_px=4, mpp=0.2125, image_key="HE")
    assert slide["table"].obs["split"].notna().all()


def test_nothing_is_written_when_the_crops_are_too_large(make_cells: Callable) -> None:
    cells = make_cells(100, extent=100.0)
    with pytest.raises(ValueError, match=r"No (test|train) cell is left: strips are 25 pixels high and crops 224"):
        sd.pp.split_strips(cells, mpp=1.0)
    assert "split" not in cells.obs
    assert "stdistill" not in cells.uns


def test_one_cell_cannot_be_split(make_cells: Callable) -> None:
    with pytest.raises(ValueError, match="cell is left"):
        sd.pp.split_strips(make_cells(1), mpp=1.0)


def test_cells_off_the_image_are_in_no_group(make_slide: Callable) -> None:
    """The image shows the lower half of the slide: strips are cut from the cells on it."""
    shift = np.array([[1.0, 0, 0], [0, 1, 150], [0, 0, 1]])
    slide = make_slide(400, he_to_global=shift, shape=(200, 300))
    sd.pp.split_strips(slide, crop_px=4)
    split = slide["table"].obs["split"]
    on_image = sd.get.he_pixels(slide)["on_image"]
    assert split[~on_image].isna().all()
    assert split[on_image].notna().all()
    assert (split == "test").sum() > 20
    sd.pp.neighborhoods(slide, n_neighbors=5)
    assert slide["table"].obsp["spatial_connectivities"][~on_image.to_numpy()].nnz == 0


def test_no_cell_on_the_image(make_slide: Callable) -> None:
    slide = make_slide(he_to_global=np.array([[1.0, 0, 1e5], [0, 1, 0], [0, 0, 1]]))
    with pytest.raises(ValueError, match="No cell lies on the image 'he'"):
        sd.pp.split_strips(slide)


def test_cells_of_no_slide_are_refused(make_cells: Callable) -> None:
    cells = make_cells(100, slide=np.array(["a"] * 90 + [None] * 10, dtype=object))
    with pytest.raises(ValueError, match="names no slide for 10 cells"):
        sd.pp.split_strips(cells, mpp=1.0, library_key="slide")


def test_several_slides_and_their_images(make_slide: Callable) -> None:
    both = spatialdata.concatenate({"a": make_slide(200), "b": make_slide(200)}, concatenate_tables=True)
    sd.pp.split_strips(both, crop_px=4, image_key={"cells-a": "he-a", "cells-b": "he-b"})
    split = both["table"].obs["split"].to_numpy()
    np.testing.assert_array_equal(split[:200], split[200:])


@pytest.fixture
def sections(make_slide: Callable) -> spatialdata.SpatialData:
    """Two sections, one above the other, on one H&E of 0.274 µm per pixel."""
    rng = np.random.default_rng(0)
    lower = rng.uniform((0, 200), (60, 300), (400, 2))
    slide = make_slide(
        np.r_[rng.uniform((0, 0), (60, 100), (400, 2)), lower],
        he_to_global=np.diag([1.29, 1.29, 1]),
        shape=(1150, 230),
    )
    slide["table"].obs["section"] = pd.Categorical(["upper"] * 400 + ["lower"] * 400)
    return slide


def test_an_empty_strip_is_called_empty(sections: spatialdata.SpatialData) -> None:
    """Of two sections the middle strips lie in the gap between them: smaller crops would not help."""
    with pytest.raises(
        ValueError,
        match=r"strip 2 of 5 holds none of \d+ cells, between rows \d+ and \d+\. If several sections.*library_key=",
    ):
        sd.pp.split_strips(sections, n_strips=5, test_strip=2, crop_px=10)
    with pytest.raises(ValueError, match=r"strips are \d+ pixels high and crops 10\..*several sections.*library_key="):
        sd.pp.split_strips(sections, n_strips=3, crop_px=10)  # where the edge of one reaches into the strip, just so
    assert "split" not in sections["table"].obs
    lines = sections["table"].copy()
    lines.obsm["spatial"][:, 1] = 5.0
    with pytest.raises(ValueError, match=r"strip 1 of 4 holds none of \d+ cells"):
        sd.pp.split_strips(lines, mpp=0.3)


def test_a_stray_cell_that_moves_the_strips(make_cells: Callable) -> None:
    """A hundred cells within 100 µm, and one at 390: strips are 97.5 high, and the second, for testing, has two."""
    y = np.r_[np.arange(100.0), 390]
    cells = make_cells(np.c_[np.zeros(101), y])
    with pytest.warns(UserWarning, match=r"4 strips hold 98, 2, 0, 1 cells: .* if stray cells lie far from the tissue"):
        sd.pp.split_strips(cells, crop_px=1, mpp=1.0)
    sd.pp.split_strips(cells[:100].copy(), crop_px=1, mpp=1.0)  # without a word


def test_sections_of_one_image(sections: spatialdata.SpatialData) -> None:
    sd.pp.split_strips(sections, crop_px=10, library_key="section")
    cells = sections["table"]
    y = cells.obsm["spatial"][:, 1]
    test = (cells.obs["split"] == "test").to_numpy()
    for name, top in (("upper", 0), ("lower", 200)):
        mine = (cells.obs["section"] == name).to_numpy()
        assert 15 < (test & mine).sum() / 4 < 30
        assert y[test & mine].min() > top + 20
        assert y[test & mine].max() < top + 55
    record = cells.uns["stdistill"]["split_strips"]
    assert record["library_key"] == "section"
    assert record["crop_um"] == pytest.approx(10 * 0.2125 * 1.29)


def test_crops_of_sections_beside_each_other_share_no_pixel(make_slide: Callable) -> None:
    """The test strip of one lies beside a training strip of the other, and crops reach over the gap."""
    rng = np.random.default_rng(0)
    left, right = rng.uniform((0, 0), (30, 60), (300, 2)), rng.uniform((32, 15), (62, 75), (300, 2))
    slide = make_slide(np.r_[left, right], he_to_global=np.diag([1.29, 1.29, 1]), shape=(300, 250))
    slide["table"].obs["section"] = pd.Categorical(["left"] * 300 + ["right"] * 300)
    sd.pp.split_strips(slide, crop_px=20, library_key="section")
    split = slide["table"].obs["split"].to_numpy()
    origins = crop_origins(sd.get.he_pixels(slide)[["x", "y"]].to_numpy(), 20)
    train, test = origins[split == "train"], origins[split == "test"]
    apart = np.abs(train[:, None] - test[None]).max(axis=2)
    assert apart.min() >= 20
    alone = slide["table"][:300].copy()
    sd.pp.split_strips(alone, crop_px=20, mpp=0.2125 * 1.29)
    left_out = (alone.obs["split"] == "train").to_numpy() & (split[:300] == "buffer")
    assert 0 < left_out.mean() < 0.2
    assert slide["table"].obsm["spatial"][:300, 0][left_out].min() > 20  # at the edge towards the other section


def test_regions_are_sections(make_slide: Callable) -> None:
    parts = {"a": make_slide(200, seed=1), "b": make_slide(200, seed=2)}
    both = spatialdata.concatenate(parts, concatenate_tables=True)
    del both.images["he-a"], both.images["he-b"]
    sd.pp.split_strips(both, crop_px=8, mpp=0.25)
    for name, rows in (("a", slice(200)), ("b", slice(200, 400))):
        alone = parts[name]["table"].copy()
        sd.pp.split_strips(alone, crop_px=8, mpp=0.25)
        assert both["table"].obs["split"].tolist()[rows] == alone.obs["split"].tolist()


def test_a_section_that_is_too_small_is_named(sections: spatialdata.SpatialData) -> None:
    with pytest.raises(ValueError, match=r"No (train|test) cell is left of 'upper': strips are .* and crops 300"):
        sd.pp.split_strips(sections, crop_px=300, library_key="section")


def test_several_splits_and_none_of_the_default_name(make_cells: Callable) -> None:
    cells = make_cells(400)
    sd.pp.split_strips(cells, mpp=0.3, key_added="first")
    sd.pp.neighborhoods(cells, n_neighbors=10)
    assert cells.uns["spatial_neighbors"]["params"]["split_key"] == "first"
    sd.pp.split_strips(cells, mpp=0.3, key_added="second", test_strip=2)
    with pytest.raises(ValueError, match=r"several splits in \.obs: 'first', 'second'\. Name one with split_key="):
        sd.pp.neighborhoods(cells, n_neighbors=10)
    sd.pp.neighborhoods(cells, n_neighbors=10, split_key="second")
    del cells.obs["first"]
    sd.pp.neighborhoods(cells, n_neighbors=10)
