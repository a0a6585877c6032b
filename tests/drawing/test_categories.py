"""Maps of categories: which colour each cell has, and what the legend says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb

from stdistill._drawing.categories import draw_category_maps
from stdistill._drawing.colors import MISSING
from stdistill._table.labels import read_labels

CENTERS = np.array([[5.0, 5], [25, 5], [45, 5], [65, 5], [85, 5]])
RED, GREEN, BLUE = "#ff0000", "#00ff00", "#0000ff"


@pytest.fixture
def cells(make_cells: Callable[..., ad.AnnData]) -> ad.AnnData:
    kinds = pd.Categorical(["a", "b", "b", None, "c"], categories=["a", "b", "c", "nowhere"])
    cells = make_cells(CENTERS.copy(), kind=kinds, other=pd.Categorical(["x", "b", "b", "b", "x"]))
    cells.uns["kind_colors"] = [RED, GREEN, BLUE, "#777777"]
    return cells


def draw(cells: ad.AnnData, *keys: str, **options: Any) -> list[Axes]:
    plt.close("all")
    how: dict[str, Any] = dict.fromkeys(
        ("groups", "image_key", "coordinate_system", "crop_um", "size_um", "palette", "ncols", "title", "ax", "save")
    )
    how |= {"defaults": {}, "alpha": 1.0, "show": False, "table_key": "table"}
    columns = {key: read_labels(cells, key, "keys") for key in keys}
    found = draw_category_maps(cells, columns, **how | options)
    return found if isinstance(found, list) else [found]  # type: ignore[list-item]


def legend(ax: Axes) -> dict[str, str]:
    found = ax.get_legend()
    assert found is not None
    names = [text.get_text() for text in found.get_texts()]
    return dict(zip(names, (to_hex(line.get_color()) for line in found.get_lines()), strict=True))


def color_at(ax: Axes, x: float, y: float) -> str:
    """What is painted at a place in µm, and nothing where the picture is empty."""
    (image,) = ax.images
    pixels = image.get_array()
    left, right, bottom, top = image.get_extent()
    column = int((x - left) / (right - left) * pixels.shape[1])
    row = int((y - top) / (bottom - top) * pixels.shape[0])
    pixel = np.asarray(pixels)[row, column]
    return to_hex(pixel[:3] / 255) if pixel[3] else ""


def test_each_cell_has_the_colour_of_its_category(cells: ad.AnnData) -> None:
    (ax,) = draw(cells, "kind")
    assert [color_at(ax, *center) for center in CENTERS] == [RED, GREEN, GREEN, MISSING, BLUE]
    assert color_at(ax, 15, 5) == ""
    assert legend(ax) == {"a (1)": RED, "b (2)": GREEN, "c (1)": BLUE, "missing (1)": MISSING}
    assert ax.get_title() == "kind"


def test_other_groups_are_grey_and_below(cells: ad.AnnData) -> None:
    cells.obsm["spatial"][1] = cells.obsm["spatial"][4] + (1, 0)  # a "b" over the "c", whose row is later
    (ax,) = draw(cells, "kind", groups=["b"])
    assert color_at(ax, *cells.obsm["spatial"][4]) == GREEN
    assert color_at(ax, *CENTERS[0]) == MISSING
    assert legend(ax) == {"b (2)": GREEN, "other (3)": MISSING}


def test_the_legend_counts_what_is_shown(cells: ad.AnnData) -> None:
    (ax,) = draw(cells, "kind", crop_um=(0.0, 0.0, 50.0, 10.0))
    assert legend(ax) == {"a (1)": RED, "b (2)": GREEN}


def test_one_name_has_one_colour_in_all_panels(cells: ad.AnnData) -> None:
    """A column without colours of its own takes those of the panels before, and keeps them in the table."""
    first, second = draw(cells, "kind", "other")
    assert legend(first)["b (2)"] == legend(second)["b (3)"] == GREEN
    assert list(cells.uns["other_colors"]) == [GREEN, legend(second)["x (2)"]]
    assert legend(second)["x (2)"] not in (RED, GREEN, BLUE)


def test_a_palette_is_for_one_picture(cells: ad.AnnData) -> None:
    (ax,) = draw(cells, "other", palette={"b": "k", "x": "w"})
    assert legend(ax) == {"b (3)": "#000000", "x (2)": "#ffffff"}
    assert "other_colors" not in cells.uns


def test_transparent_cells(cells: ad.AnnData) -> None:
    (ax,) = draw(cells, "kind", alpha=0.25)
    ax.figure.canvas.draw()
    x, y = ax.transData.transform(CENTERS[0])
    pixels = np.asarray(ax.figure.canvas.buffer_rgba())
    shade = pixels[round(pixels.shape[0] - y), round(x), :3] / 255
    np.testing.assert_allclose(shade, 0.25 * np.array(to_rgb(RED)) + 0.75, atol=0.02)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ("b", TypeError, "groups must be a list of names, found 'b'"),
        (3, TypeError, "groups must be a list of names, found 3"),
        ([], ValueError, "groups is empty: name the categories to colour"),
        (["b", "B"], KeyError, r"groups='B' is not a category of \['kind'\]; there is: 'a', 'b', 'c', 'nowhere'"),
    ],
)
def test_groups_that_are_none(cells: ad.AnnData, groups: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw(cells, "kind", groups=groups)
    assert not plt.get_fignums()


def test_what_fails_leaves_the_table_as_it_is(cells: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="shows no cell"):
        draw(cells, "other", crop_um=(500.0, 500.0, 600.0, 600.0))
    assert "other_colors" not in cells.uns
    assert not plt.get_fignums()


def test_long_names_have_room(cells: ad.AnnData) -> None:
    """The map is as wide as with short names: the figure grows."""
    (short,) = draw(cells, "kind")
    before = short.figure.get_size_inches()
    cells.obs["kind"] = cells.obs["kind"].cat.rename_categories({"a": "a" * 60})
    (long,) = draw(cells, "kind")
    after = long.figure.get_size_inches()
    assert after[0] > before[0] + 2
    assert after[1] == before[1]
