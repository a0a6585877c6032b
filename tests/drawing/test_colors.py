"""Which colour a category has: what the user says, else what the table says, else what others of its name have."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba

from stdistill._drawing.colors import MISSING, category_colors, find_colormap, palette_colors, write_colors
from stdistill._table.niches import default_colors, write_niches

NAMES = ["B cell", "T cell"]


@pytest.fixture
def cells(make_cells: Callable[..., ad.AnnData]) -> ad.AnnData:
    return make_cells(4, cell_type=pd.Categorical(["B cell", "T cell"] * 2))


def test_who_decides(cells: ad.AnnData) -> None:
    defaults = {"T cell": "#123456"}
    first = category_colors(cells, "cell_type", NAMES, None, defaults)
    assert first == [default_colors(2)[0], "#123456"]
    cells.uns["cell_type_colors"] = np.array(["#aa0000", "blue"], dtype=object)
    assert category_colors(cells, "cell_type", NAMES, None, defaults) == ["#aa0000", "blue"]
    assert category_colors(cells, "cell_type", NAMES, ["red", "green"], defaults) == ["red", "green"]
    assert category_colors(cells, "cell_type", NAMES, {"T cell": "k", "B cell": "w", "x": "r"}, defaults) == ["w", "k"]


def test_colors_of_another_number_of_categories_are_not_taken(cells: ad.AnnData) -> None:
    """As after categories were removed: which is whose cannot be told."""
    cells.uns["cell_type_colors"] = ["red", "green", "blue"]
    assert category_colors(cells, "cell_type", NAMES, None, {}) == default_colors(2)
    write_colors(cells, "cell_type", ["#000000", "#ffffff"])
    assert list(cells.uns["cell_type_colors"]) == ["#000000", "#ffffff"]


@pytest.mark.parametrize("categories", [["0", "2"], ["2", "1", "0"]])
def test_niches_keep_their_colours_when_their_column_is_changed(
    make_cells: Callable[..., ad.AnnData], categories: list[str]
) -> None:
    """A niche without cells is dropped from the categories, or these are brought into another order by themselves."""
    cells = make_cells(4)
    logits = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]], dtype=np.float32)
    write_niches(cells, "student", logits, niches=["0", "1", "2"], colors=default_colors(3))
    cells.obs["student_niche"] = cells.obs["student_niche"].cat.set_categories(categories)
    colors = category_colors(cells, "student_niche", categories, None, {})
    assert colors == [default_colors(3)[int(name)] for name in categories]


def test_niches_without_colours_have_the_same_in_every_plot(make_cells: Callable[..., ad.AnnData]) -> None:
    """`anndata.concat` loses them, and a file sorts what was text: 0, 1, 10, 11, 2, …"""
    names = [str(niche) for niche in range(12)]
    cells = make_cells(12)
    write_niches(cells, "student", np.eye(12, dtype=np.float32), niches=names, colors=default_colors(12))
    del cells.uns["student_niche_colors"]
    cells.obs["student_niche"] = cells.obs["student_niche"].cat.reorder_categories(sorted(names))
    first = category_colors(cells, "student_niche", sorted(names), None, {})
    assert dict(zip(sorted(names), first, strict=True)) == dict(zip(names, default_colors(12), strict=True))
    write_colors(cells, "student_niche", first)
    assert category_colors(cells, "student_niche", sorted(names), None, {}) == first


def test_what_stands_in_the_table_is_not_written_over(cells: ad.AnnData) -> None:
    cells.uns["cell_type_colors"] = ["red", "green"]
    write_colors(cells, "cell_type", ["#000000", "#ffffff"])
    assert cells.uns["cell_type_colors"] == ["red", "green"]


def test_a_view_stays_a_view(cells: ad.AnnData) -> None:
    part = cells[:2]
    write_colors(part, "cell_type", ["#000000", "#ffffff"])
    assert part.is_view
    assert "cell_type_colors" not in part.uns
    assert "cell_type_colors" not in cells.uns


def test_colors_that_are_none(cells: ad.AnnData) -> None:
    cells.uns["cell_type_colors"] = ["red", "rainbow"]
    with pytest.raises(ValueError, match=r'\.uns\["cell_type_colors"\] holds \[\'rainbow\'\]; expected colours'):
        category_colors(cells, "cell_type", NAMES, None, {})
    with pytest.raises(ValueError, match=r"palette holds \['#12'\]; expected colours as matplotlib names them"):
        palette_colors(["red", "#12"], NAMES)


def test_palettes() -> None:
    assert palette_colors(None, NAMES) == default_colors(2)
    assert palette_colors(("red", "green", "blue"), NAMES) == ["red", "green"]
    assert palette_colors(np.array(["red", "green"]), NAMES) == ["red", "green"]
    with pytest.raises(ValueError, match=r"palette has 1 colours; 2 are needed, for \['B cell', 'T cell'\]"):
        palette_colors(["red"], NAMES)
    with pytest.raises(KeyError, match=r"category='T cell' is not a name in the palette; there is: 'B cell'"):
        palette_colors({"B cell": "red"}, NAMES)
    for wrong in ("tab20", 3):
        with pytest.raises(TypeError, match=f"palette is {wrong!r}; expected a list of colours, or a dictionary"):
            palette_colors(wrong, NAMES)  # type: ignore[arg-type]


def test_more_categories_than_colours(make_cells: Callable[..., ad.AnnData]) -> None:
    """Those of the table may repeat on purpose while there are enough to choose from."""
    names = [f"type {number:03}" for number in range(104)]
    cells = make_cells(104, cell_type=pd.Categorical(names))
    with pytest.warns(UserWarning, match="^2 of 104 categories have the colour of another one: there are 102 default"):
        found = category_colors(cells, "cell_type", names, None, {})
    assert found[:2] == found[102:]
    with pytest.warns(UserWarning, match="^2 of 104 categories"):
        palette_colors(None, names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(set(palette_colors(None, names[:102]))) == 102
        assert category_colors(cells, "cell_type", names, ["red"] * 104, {}) == ["red"] * 104
        cells.uns["cell_type_colors"] = [f"#{number:06x}" for number in range(104)]
        assert category_colors(cells, "cell_type", names, None, {})[103] == "#000067"
        cells = cells[:60].copy()
        cells.uns["cell_type_colors"] = ["red"] * 60
        assert category_colors(cells, "cell_type", names[:60], None, {}) == ["red"] * 60


@pytest.mark.parametrize("n", [1, 12, 40, 41, 102])
def test_default_colors_are_told_apart(n: int) -> None:
    """No two are the same, and none is the grey of what is missing."""
    colors = {to_hex(color) for color in default_colors(n)}
    assert len(colors) == n
    assert MISSING not in colors


def test_a_colour_map_is_grey_where_nothing_is_known() -> None:
    found = find_colormap("viridis")
    assert found(np.nan) == to_rgba(MISSING)
    assert found(0.0) != found(1.0)
    with pytest.raises(KeyError, match=r"cmap='virids' is not a colour map of matplotlib"):
        find_colormap("virids")
