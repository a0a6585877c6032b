from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import stdistill as sd
from stdistill._table.niches import default_colors


def legend(ax: Axes) -> dict[str, str]:
    """Labels of the legend and their colours."""
    box = ax.get_legend()
    return {
        text.get_text(): to_hex(handle.get_color())
        for text, handle in zip(box.get_texts(), box.legend_handles, strict=True)
    }


def painted(ax: Axes) -> dict[str, int]:
    """Colours of the cells and their pixels."""
    rgba = ax.images[-1].get_array()
    colors, counts = np.unique(rgba[rgba[..., 3] > 0][:, :3], axis=0, return_counts=True)
    return {to_hex(color / 255): int(count) for color, count in zip(colors, counts, strict=True)}


def test_teacher_and_student(slide: ad.AnnData, check_image: Callable) -> None:
    teacher, student = sd.pl.niches(slide, show=False)
    check_image("niches")
    assert (teacher.get_title(), student.get_title()) == ("teacher_niche", "student_niche")
    sizes = slide.obs["student_niche"].value_counts()
    expected = [f"{name} ({sizes[name]})" for name in "0123"] + ["missing (20)"]
    assert list(legend(student)) == expected
    assert painted(teacher).keys() == set(default_colors(4))
    assert painted(student).keys() == {*default_colors(4), "#dddddd"}


def test_over_the_slide(bundle: Path, check_image: Callable) -> None:
    sdata = sd.pp.read_xenium(bundle)
    sdata["table"].obs["student_niche"] = pd.Categorical(
        np.where(sdata["table"].obsm["spatial"][:, 1] < 200, "upper", "lower"), categories=["upper", "lower"]
    )
    sd.pl.niches(sdata, image_key="he", size_um=4, show=False)
    check_image("niches_he")


def test_groups_in_a_crop(slide: ad.AnnData, check_image: Callable) -> None:
    ax = sd.pl.niches(slide, keys="teacher_niche", groups=["2"], crop_um=(150, 50, 320, 150), title="2", show=False)
    check_image("niches_crop")
    x, y = slide.obsm["spatial"].T
    inside = (x >= 150) & (x <= 320) & (y >= 50) & (y <= 150)
    third = (inside & (slide.obs["teacher_niche"] == "2")).sum()
    assert legend(ax) == {f"2 ({third})": default_colors(4)[2], f"other ({inside.sum() - third})": "#dddddd"}


def test_colors_of_the_table_are_used_and_kept(slide: ad.AnnData) -> None:
    colors = ["#111111", "#222222", "#333333", "#444444"]
    slide.uns["teacher_niche_colors"] = colors
    teacher, student = sd.pl.niches(slide, show=False)
    assert list(legend(teacher).values()) == colors
    # The student has none of its own: the same niche has the same colour.
    assert list(legend(student).values())[:4] == colors
    assert list(slide.uns["student_niche_colors"]) == colors
    assert slide.uns["teacher_niche_colors"] is colors


def test_only_colors_are_written(slide: ad.AnnData) -> None:
    before = slide.copy()
    sd.pl.niches(slide, keys="teacher_niche", show=False)
    assert set(slide.uns) - set(before.uns) == {"teacher_niche_colors"}
    assert list(slide.uns["teacher_niche_colors"]) == default_colors(4)
    pd.testing.assert_frame_equal(slide.obs, before.obs)


def test_a_palette_is_for_one_figure(slide: ad.AnnData) -> None:
    by_name = {"3": "#000003", "2": "#000002", "1": "#000001", "0": "#000000"}
    ax = sd.pl.niches(slide, keys="teacher_niche", palette=by_name, show=False)
    assert list(legend(ax).values()) == ["#000000", "#000001", "#000002", "#000003"]
    assert "teacher_niche_colors" not in slide.uns


@pytest.mark.filterwarnings("error", "ignore:The 'mode.chained_assignment' option")  # anndata's, on pandas 3
def test_a_view_stays_a_view(slide: ad.AnnData) -> None:
    part = slide[:100]
    sd.pl.niches(part, show=False)
    assert part.is_view


def test_every_niche_column_without_a_teacher(slide: ad.AnnData) -> None:
    slide.obs = slide.obs.rename(columns={"teacher_niche": "he_nolan_niche", "student_niche": "he_leiden_niche"})
    titles = [ax.get_title() for ax in sd.pl.niches(slide, show=False)]
    assert titles == ["he_nolan_niche", "he_leiden_niche"]


def test_y_points_down_and_units_are_um(slide: ad.AnnData) -> None:
    ax, _ = sd.pl.niches(slide, show=False)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    x, y = slide.obsm["spatial"].T
    assert (left, right, top, bottom) == pytest.approx((x.min() - 5, x.max() + 5, y.min() - 5, y.max() + 5))
    assert [text.get_text() for text in ax.texts] == ["100 µm"]
    assert np.ptp(ax.lines[0].get_xdata()) == pytest.approx(100)


def test_own_axes(slide: ad.AnnData) -> None:
    _, (left, right) = plt.subplots(1, 2)
    assert sd.pl.niches(slide, ax=[right, left]) == [right, left]
    assert right.get_title() == "teacher_niche"
    assert sd.pl.niches(slide, keys="student_niche", ax=left) is left
    with pytest.raises(ValueError, match="ax holds 1 axes; there are 2 panels"):
        sd.pl.niches(slide, ax=left)


def test_rows_of_panels(slide: ad.AnnData) -> None:
    keys = ["teacher_niche", "student_niche", "cell_type"]
    axes = sd.pl.niches(slide, keys=keys, ncols=2, title=list("abc"), show=False)
    assert [ax.get_title() for ax in axes] == ["a", "b", "c"]
    assert [ax.get_subplotspec().rowspan.start for ax in axes] == [0, 0, 1]
    assert len(plt.gcf().axes) == 3


def test_a_million_cells_in_seconds(tmp_path: Path) -> None:
    n = 1_000_000
    rng = np.random.default_rng(0)
    adata = ad.AnnData(obs=pd.DataFrame(index=pd.RangeIndex(n).astype(str)))
    adata.obsm["spatial"] = rng.uniform(0, 10_000, (n, 2))
    adata.obs["teacher_niche"] = pd.Categorical.from_codes(rng.integers(0, 20, n), list(map(str, range(20))))
    start = time.process_time()
    sd.pl.niches(adata, save=tmp_path / "niches.pdf")
    assert time.process_time() - start < 10
    assert (tmp_path / "niches.pdf").stat().st_size < 10e6  # an image, not a million circles


def test_unknown_names(slide: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"keys='niche' is not a column of .obs; there is: .*'teacher_niche'"):
        sd.pl.niches(slide, keys="niche")
    with pytest.raises(KeyError, match=r"keys='student' is not a column of .*Did you mean 'student_niche'\?"):
        sd.pl.niches(slide, keys="student")
    with pytest.raises(KeyError, match=r"groups='9' is not a category of .* there is: '0', '1', '2', '3'"):
        sd.pl.niches(slide, groups=["9"])
    with pytest.raises(KeyError, match="category='1' is not a name in the palette; there is: '0'"):
        sd.pl.niches(slide, palette={"0": "red"})
    del slide.obs["teacher_niche"], slide.obs["student_niche"]
    with pytest.raises(KeyError, match="There is no column \\*_niche"):
        sd.pl.niches(slide)


def test_wrong_types(slide: ad.AnnData) -> None:
    with pytest.raises(TypeError, match="holds float64; expected a categorical column"):
        sd.pl.niches(slide, keys="student_confidence")
    with pytest.raises(TypeError, match="groups must be a list of names, found '1'"):
        sd.pl.niches(slide, groups="1")
    with pytest.raises(TypeError, match="palette is 'viridis'; expected a list of colours"):
        sd.pl.niches(slide, palette="viridis")
    with pytest.raises(TypeError, match="groups must be a list of names, found 1"):
        sd.pl.niches(slide, groups=1)
    with pytest.raises(TypeError, match="palette is 3; expected a list of colours"):
        sd.pl.niches(slide, palette=3)
    with pytest.raises(TypeError, match="needs a SpatialData with that image"):
        sd.pl.niches(slide, image_key="he")
    assert not slide.uns, "a call that fails writes nothing"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_um": (900, 900, 999, 999)}, "shows no cell; the cells lie between"),
        ({"crop_um": (50, 0, 10, 20)}, "crop_um must be (x_min, y_min, x_max, y_max) in µm"),
        ({"crop_um": (0, 0, 10)}, "crop_um must be (x_min, y_min, x_max, y_max) in µm"),
        ({"title": ["one"]}, "title holds 1 titles; there are 2 panels"),
        ({"palette": ["red"]}, "palette has 1 colours; 4 are needed"),
        ({"size_um": -1}, "size_um must be positive"),
        ({"alpha": 0}, "alpha must be positive"),
        ({"alpha": 1.5}, "alpha must be at most 1, found 1.5"),
        ({"crop_um": 5}, "crop_um must be (x_min, y_min, x_max, y_max) in µm, found 5"),
        ({"crop_um": "all"}, "in µm, found 'all'"),
        ({"crop_um": (0, 0, None, 10)}, "crop_um must be (x_min, y_min, x_max, y_max) in µm"),
        ({"groups": []}, "groups is empty"),
        ({"keys": []}, "keys is empty"),
        ({"palette": ["red", "blue", "green", "greyish"]}, "palette holds ['greyish']; expected colours"),
        ({"ncols": 0}, "ncols must be at least 1"),
    ],
)
def test_wrong_values(slide: ad.AnnData, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        sd.pl.niches(slide, **arguments)
    assert not slide.uns
    assert not plt.get_fignums()


def test_colors_of_the_table_that_are_none(slide: ad.AnnData) -> None:
    slide.uns["teacher_niche_colors"] = ["red", "blue", "green", "greyish"]
    with pytest.raises(ValueError, match=r'\.uns\["teacher_niche_colors"\] holds \[\'greyish\'\]; expected colours'):
        sd.pl.niches(slide)
    assert not plt.get_fignums()


def test_one_niche_of_one_cell(slide: ad.AnnData) -> None:
    ax = sd.pl.niches(slide[:1].copy(), keys="teacher_niche", show=False)
    (label,) = legend(ax)
    assert label.endswith("(1)")


def test_no_cells(slide: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="is missing for all of the 0 cells"):
        sd.pl.niches(slide[:0].copy())


def test_labels_all_missing(slide: ad.AnnData) -> None:
    slide.obs["student_niche"] = pd.Categorical([None] * slide.n_obs, categories=["0"])
    with pytest.raises(ValueError, match="is missing for all of the 600 cells"):
        sd.pl.niches(slide)


def test_several_slides_are_not_drawn_over_one_another(slide: ad.AnnData) -> None:
    slide.obs["region"] = pd.Categorical(np.where(np.arange(slide.n_obs) < 300, "first", "second"))
    slide.uns["spatialdata_attrs"] = {"region_key": "region"}
    with pytest.raises(ValueError, match="annotates 2 regions, which would be drawn over one another"):
        sd.pl.niches(slide)
    sd.pl.niches(slide[slide.obs["region"] == "first"], show=False)


def test_long_names_leave_room_for_the_map(slide: ad.AnnData) -> None:
    def width(ax: Axes) -> float:
        plt.gcf().draw_without_rendering()
        return ax.get_window_extent().width

    short = width(sd.pl.niches(slide, keys="cell_type", show=False))
    names = [f"fibroblasts of the {letter}th zone, remodelling" for letter in "ABCDE"]
    slide.obs["cell_type"] = slide.obs["cell_type"].cat.rename_categories(names)
    assert width(sd.pl.niches(slide, keys="cell_type", show=False)) > 0.9 * short
