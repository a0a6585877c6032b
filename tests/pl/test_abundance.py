from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._table.abundances import write_abundances

TYPES = ["Cancer", "CAFs/iCAF", "NK cells"]


@pytest.fixture
def spots() -> ad.AnnData:
    """A grid of spots, 100 µm apart, with gradients of three types, and a paler prediction, its types in reverse."""
    places = np.stack(np.meshgrid(np.arange(15.0), np.arange(10.0)), axis=-1).reshape(-1, 2)
    spots = ad.AnnData(np.zeros((150, 1), dtype=np.float32), obsm={"spatial": places * 100})
    x, y = (places / (14, 9)).T
    truth = np.column_stack([x**2, 0.5 * y, 0.1 * (1 - x) * (1 - y)])
    prediction = (0.6 * truth + 0.4 * truth.mean(axis=0))[:, ::-1]
    prediction[:4] = np.nan
    write_abundances(spots, "abundances", "abundance", truth, TYPES)
    write_abundances(spots, "decompose", "he_abundance", prediction, TYPES[::-1])
    return spots


def colorbars(axes: list[mpl.axes.Axes]) -> list[mpl.axes.Axes]:
    return [ax for ax in plt.gcf().axes if ax not in axes]


def pixel(ax: mpl.axes.Axes, place: tuple[float, float]) -> np.ndarray:
    """The colour that is painted at a place in µm."""
    image = ax.images[0]
    left, right, bottom, top = image.get_extent()
    height, width = image.get_array().shape[:2]
    x, y = (place[0] - left) / (right - left) * width, (place[1] - top) / (bottom - top) * height
    return image.get_array()[int(y), int(x)]


def test_truth_above_prediction(spots: ad.AnnData, check_image: Callable) -> None:
    axes = sd.pl.abundance(spots, types=TYPES, show=False)
    check_image("abundance")
    assert [ax.get_title() for ax in axes] == [*TYPES, "", "", ""]
    assert [ax.texts[-1].get_text() for ax in (axes[0], axes[3])] == ["abundance", "he_abundance"]
    bars = colorbars(axes)
    assert len(bars) == 3  # one for each type
    tops = np.quantile(spots.obsm["abundance"], 0.99, axis=0)
    np.testing.assert_allclose([bar.get_ylim() for bar in bars], [(0, top) for top in tops], rtol=1e-6)
    assert not spots.uns.get("abundance_colors")


def test_colours_of_a_type_are_on_one_scale(spots: ad.AnnData) -> None:
    truth, prediction = sd.pl.abundance(spots, types="CAFs/iCAF", cmap="magma", show=False)
    top = np.quantile(spots.obsm["abundance"][:, 1], 0.99)
    for ax, key, column in ((truth, "abundance", 1), (prediction, "he_abundance", 1)):
        for row in (80, 147):
            expected = mpl.colormaps["magma"](min(spots.obsm[key][row, column] / top, 1.0))
            painted = pixel(ax, tuple(spots.obsm["spatial"][row]))
            np.testing.assert_allclose(painted, np.round(255 * np.array(expected)), atol=1)
    np.testing.assert_array_equal(pixel(prediction, (100, 0)), (0xDD, 0xDD, 0xDD, 255))  # not known


def test_dots_have_the_size_of_spots_and_are_whole(spots: ad.AnnData) -> None:
    ax = sd.pl.abundance(spots, keys="abundance", types="Cancer", show=False)
    assert ax.get_xlim() == pytest.approx((-27.5, 1427.5))
    assert pixel(ax, (726, 400))[3] == 255
    assert pixel(ax, (731, 400))[3] == 0
    ax = sd.pl.abundance(spots, keys="abundance", types="Cancer", size_um=80, show=False)
    assert pixel(ax, (735, 400))[3] == 255


def test_cells_are_drawn_as_cells(spots: ad.AnnData) -> None:
    spots.obsm["spatial"] /= 10
    ax = sd.pl.abundance(spots, keys="abundance", types="Cancer", show=False)
    assert ax.get_xlim() == pytest.approx((-5, 145))


def test_the_most_abundant_types_of_the_keys_that_are_there(spots: ad.AnnData) -> None:
    axes = sd.pl.abundance(spots, show=False)
    assert [ax.get_title() for ax in axes[:3]] == ["Cancer", "CAFs/iCAF", "NK cells"]
    del spots.obsm["he_abundance"]
    axes = sd.pl.abundance(spots, show=False)
    assert len(axes) == 3
    assert axes[0].texts[-1].get_text().endswith("µm")  # one row needs no name
    frame = pd.DataFrame(np.arange(6) * np.ones((150, 6)), index=spots.obs_names, columns=list("ABCDEF"))
    spots.obsm["frame"] = frame
    sd.pp.abundances(spots, obsm_key="frame", key_added="six")
    axes = sd.pl.abundance(spots, keys=["six"], show=False)
    assert [ax.get_title() for ax in axes] == list("FEDC")


def test_a_rare_type_and_one_that_is_nowhere(spots: ad.AnnData) -> None:
    rare = np.zeros((150, 2))
    rare[7, 0] = 0.2
    write_abundances(spots, "abundances", "rare", rare, ["rare", "none"])
    axes = sd.pl.abundance(spots, keys="rare", types=["rare", "none"], show=False)
    np.testing.assert_allclose([bar.get_ylim() for bar in colorbars(axes)], [(0, 0.2), (0, 1)], rtol=1e-6)


def test_own_axes_and_titles(spots: ad.AnnData) -> None:
    _, grid = plt.subplots(2, 2)
    axes = sd.pl.abundance(spots, types=TYPES[:2], title=list("abcd"), ax=grid)
    assert axes == list(grid.flat)
    assert [ax.get_title() for ax in axes] == list("abcd")
    with pytest.raises(ValueError, match="title holds 2 titles; there are 4 panels"):
        sd.pl.abundance(spots, types=TYPES[:2], title=["a", "b"])


def test_over_the_he_where_there_is_one(bundle: Path, check_image: Callable) -> None:
    slide = sd.pp.read_xenium(bundle)
    sd.pp.abundances(slide, cell_type_key="cell_type", radius_um=40)
    x, y = np.median(slide["table"].obsm["spatial"], axis=0)
    crop = (x - 150, y - 100, x + 150, y + 100)
    types = sd.get.abundances(slide).mean().nlargest(2).index
    axes = sd.pl.abundance(slide, types=types, crop_um=crop, show=False)
    check_image("abundance_he")
    assert [len(ax.images) for ax in axes] == [2, 2]
    axes = sd.pl.abundance(slide, types=types, crop_um=crop, image_key=None, show=False)
    assert [len(ax.images) for ax in axes] == [1, 1]


def test_spots_over_the_he_have_white_rims(make_slide: Callable) -> None:
    places = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0)), axis=-1).reshape(-1, 2) * 100 + 50
    slide = make_slide(places, he_to_global=np.diag([10.0, 10, 1]), shape=(170, 200))
    write_abundances(slide["table"], "abundances", "abundance", np.ones((12, 1)), ["T"])
    ax = sd.pl.abundance(slide, show=False)
    assert len(ax.images) == 3
    np.testing.assert_array_equal(pixel(ax, (150 + 30, 150)), (255, 255, 255, 255))
    assert pixel(ax, (150 + 35, 150))[3] == 0
    assert len(sd.pl.abundance(slide, image_key=None, show=False).images) == 1


def test_what_cannot_be_drawn(spots: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"types='B' is not a type of \.obsm\['abundance'\]; there is: 'CAFs/iCAF'"):
        sd.pl.abundance(spots, types=["Cancer", "B"])
    with pytest.raises(KeyError, match=r"keys='ridge' is not abundances in \.obsm"):
        sd.pl.abundance(spots, keys=["abundance", "ridge"])
    with pytest.raises(ValueError, match="keys is empty"):
        sd.pl.abundance(spots, keys=[])
    with pytest.raises(ValueError, match="types is empty"):
        sd.pl.abundance(spots, types=[])
    with pytest.raises(KeyError, match="cmap='jett'"):
        sd.pl.abundance(spots, cmap="jett")
    with pytest.raises(TypeError, match="image_key='slide' needs a SpatialData"):
        sd.pl.abundance(spots, image_key="slide")
    write_abundances(spots, "abundances", "other", np.ones((150, 1)), ["B"])
    with pytest.raises(ValueError, match=r"\['abundance', 'other'\] have no type in common"):
        sd.pl.abundance(spots, keys=["abundance", "other"])
    del spots.obsm["abundance"], spots.obsm["he_abundance"]
    with pytest.raises(KeyError, match=r'There is neither \.obsm\["abundance"\] nor \.obsm\["he_abundance"\]'):
        sd.pl.abundance(spots)
    assert not plt.get_fignums()
