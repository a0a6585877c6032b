"""Colours of categories: those in the table, else defaults, which are then written to it; and of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from anndata import AnnData

from stdistill._support.checks import check_key
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.niches import colors_by_name, column_colors, default_colors

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

Palette: TypeAlias = "Mapping[str, str] | Sequence[str]"

MISSING = "#dddddd"
"""Cells without a label, and those of other groups."""
MOST_COLORS = 102
"""Default colours, which are scanpy's where they are so many."""
SPLIT_COLORS = {schema.TRAIN: "#3f90da", schema.TEST: "#ffa90e", schema.BUFFER: "#717581"}


def category_colors(
    adata: AnnData, key: str, names: Sequence[str], palette: Palette | None, defaults: Mapping[str, str]
) -> list[str]:
    """Return the colours of the categories of a column.

    Parameters
    ----------
    adata
        The table.
    key
        The column.
    names
        Its categories.
    palette
        What the user gave; goes before everything else.
    defaults
        Colours by name, for a column without colours in the table.
    """
    if palette is not None:
        return palette_colors(palette, names)
    colors = colors_by_name(adata, key)
    if not colors.keys() >= set(names):
        colors = dict(zip(names, column_colors(adata, key, names), strict=True)) | {**defaults}
    found = [colors[name] for name in names]
    _warn_of_repeats(found)
    return found


def write_colors(adata: AnnData, key: str, colors: Sequence[str]) -> None:
    """Write colours to a table that has none, so that all later plots use them; not to a view, which is not a table."""
    if not adata.is_view and not _has_colors(adata, key, len(colors)):
        adata.uns[f"{key}_colors"] = np.array(colors, dtype=object)


def palette_colors(palette: Palette | None, names: Sequence[str]) -> list[str]:
    """Return a colour for each name from a palette, the default one when there is none."""
    from matplotlib.colors import is_color_like

    if palette is None:
        found = default_colors(len(names))
        _warn_of_repeats(found)
        return found
    if isinstance(palette, str) or not hasattr(palette, "__len__"):
        msg = f"palette is {palette!r}; expected a list of colours, or a dictionary of names and colours."
        raise TypeError(msg)
    if isinstance(palette, Mapping):
        for name in names:
            check_key(name, palette, "a name in the palette", argument="category")
        colors = [palette[name] for name in names]
    elif len(palette) < len(names):
        msg = f"palette has {len(palette)} colours; {len(names)} are needed, for {list(names)}."
        raise ValueError(msg)
    else:
        colors = list(palette)[: len(names)]
    wrong = [color for color in colors if not is_color_like(color)]
    if wrong:
        msg = f"palette holds {wrong}; expected colours as matplotlib names them, such as 'red' or '#ff0000'."
        raise ValueError(msg)
    return colors


def find_colormap(cmap: str) -> Colormap:
    """Return the colour map of a name, grey for what is missing."""
    import matplotlib as mpl

    check_key(cmap, mpl.colormaps, "a colour map of matplotlib", argument="cmap")
    return mpl.colormaps[cmap].with_extremes(bad=MISSING)


def _warn_of_repeats(colors: Sequence[str]) -> None:
    """Warn when more categories than there are default colours do not have one each."""
    n_repeated = len(colors) - len(set(colors))
    if n_repeated and len(colors) > MOST_COLORS:
        warn(
            f"{n_repeated} of {len(colors)} categories have the colour of another one: there are {MOST_COLORS} default "
            "colours. Give others with palette=, or draw fewer categories."
        )


def _has_colors(adata: AnnData, key: str, n_names: int) -> bool:
    colors = adata.uns.get(f"{key}_colors")
    return colors is not None and len(colors) == n_names
