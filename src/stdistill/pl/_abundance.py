"""Maps of how much of each cell type is where, what was measured over what a model predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import find_colormap
from stdistill._drawing.view import TITLE_IN, Bounds, View, draw_cells, draw_view, make_view
from stdistill._graph.spacing import SPOTS_UM, median_spacing
from stdistill._support.checks import as_names, check_key
from stdistill._table import schema
from stdistill._table.abundances import HINT, Abundances, check_taught_abundances, read_abundances
from stdistill._table.checks import get_centers, get_table, is_spatialdata

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap
    from spatialdata import SpatialData

    from stdistill._support.arrays import Float64s, Floats

N_TYPES = 4
"""Of the most abundant types, when none are named."""
COLORBAR_IN = 0.9
"""Room for the colour bar, in inches."""
SPOT_SHARE = 0.55
"""Diameter of a spot over the distance to the next, as of Visium."""
RIM = 1.2
"""Diameter of the white rim of a spot over its own."""
TOP_QUANTILE = 0.99
"""A few places with very much of a type do not darken all others."""


def abundance(
    data: AnnData | SpatialData,
    *,
    keys: str | Sequence[str] = (schema.ABUNDANCE, schema.HE_ABUNDANCE),
    types: str | Sequence[str] | None = None,
    image_key: str | None = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    crop_um: Bounds | None = None,
    size_um: float | None = None,
    alpha: float = 1.0,
    cmap: str = "viridis",
    title: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    table_key: str = schema.TABLE,
) -> AxesOrList | None:
    """Draw maps of several cell types, a column for each, and a row for each key: the truth above the prediction.

    All maps of a type have one scale of colours: from 0 to the 99 % quantile of what is shown, of the key where that
    is largest.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with abundances. One slide: of several, draw a view of each.
    keys
        Keys of ``.obsm`` to draw, one row each. Of the default ones, those that are there.
    types
        Types to draw, by name. By default the four most abundant ones of the first key.
    image_key
        Name of the H&E of a SpatialData to draw over; the default one need not be there. `None` draws the cells or
        spots alone.
    size_um
        Diameter of the dots in µm. By default that of a spot, 0.55 of the distance to the next, where this is more than
        30 µm, else that of a cell, as of :func:`stdistill.pl.niches`.
    cmap
        Colour map of matplotlib.
    title
        Titles of all panels, row by row, instead of the names of the types above the first row.
    coordinate_system, crop_um, alpha, ax, save, show, table_key
        As of :func:`stdistill.pl.niches`.

    Returns
    -------
    `None` when the figure was shown; else the axes, row by row, or the one there is. Nothing is written.

    Raises
    ------
    KeyError
        When the table, a key, a type, the image or the colour map is not there.
    TypeError
        When what is under a key holds no numbers, or an AnnData is to be drawn over an image.
    ValueError
        When `keys` or `types` is empty, a prediction learned other abundances than those beside it, or as by
        :func:`stdistill.pl.niches`.

    Notes
    -----
    As Sun, Zhu and Qiu 2025 (arXiv 2507.07013) show their predictions. One scale for truth and prediction is our
    choice: on a scale of its own a prediction that is flat looks like one that is not. What is not known is grey.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> places = np.stack(np.meshgrid(np.arange(20), np.arange(15)), axis=-1).reshape(-1, 2) * 100.0
    >>> spots = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": places})
    >>> spots.obsm["proportions"] = pd.DataFrame(np.random.default_rng(0).dirichlet([1, 2, 3], 300), spots.obs_names)
    >>> sd.pp.abundances(spots, obsm_key="proportions")
    >>> axes = sd.pl.abundance(spots, types=["0", "2"], save="abundance.png")
    >>> [ax.get_title() for ax in axes]
    ['0', '2']
    """
    adata = get_table(data, table_key)
    found = {key: read_abundances(adata, key, "keys") for key in _find_keys(adata, keys)}
    for key, reference in permutations(found, 2):
        check_taught_abundances(adata, key, reference)
    chosen = _find_types(found, types)
    colormap = find_colormap(cmap)
    if image_key == schema.HE_IMAGE and not (is_spatialdata(data) and image_key in data.images):
        image_key = None
    spot_um = _spot_um(get_centers(adata))
    view = make_view(
        data,
        table_key=table_key,
        image_key=image_key,
        coordinate_system=coordinate_system,
        crop_um=crop_um,
        size_um=spot_um if size_um is None else size_um,
        alpha=alpha,
    )
    titles = make_titles(title, [*chosen, *[""] * len(chosen) * (len(found) - 1)])
    width, height = view.panel_size
    panel_size = width + COLORBAR_IN, height + TITLE_IN
    axes = make_axes(len(titles), ax=ax, panel_size=panel_size, ncols=len(chosen))
    for column, name in enumerate(chosen):
        maps = [one.values[view.cells, one.types.index(name)] for one in found.values()]
        panels = axes[column :: len(chosen)]
        scale = _scale(maps, colormap)
        for panel, values, text in zip(panels, maps, titles[column :: len(chosen)], strict=True):
            if spot_um is not None and view.background is not None:
                _draw_rims(panel, view)
            draw_cells(panel, view, scale.to_rgba(values), layers=np.nan_to_num(values, nan=-1))
            draw_view(panel, view, text)
        extend = "max" if max(np.nanmax(values, initial=0) for values in maps) > scale.norm.vmax else "neither"
        panels[0].figure.colorbar(scale, ax=panels, shrink=0.6 / len(panels) ** 0.5, extend=extend)
    if len(found) > 1:
        for panel, key in zip(axes[:: len(chosen)], found, strict=True):
            panel.annotate(
                key,
                (0, 0.5),
                xycoords="axes fraction",
                xytext=(-6, 0),
                textcoords="offset points",
                rotation=90,
                ha="right",
                va="center",
                fontsize="large",
            )
    return finish(axes, ax=ax, save=save, show=show)


def _find_keys(adata: AnnData, keys: str | Sequence[str]) -> list[str]:
    chosen = as_names(keys, "keys", "the abundances in .obsm to draw")
    if tuple(chosen) == (schema.ABUNDANCE, schema.HE_ABUNDANCE):
        there = [key for key in chosen if key in adata.obsm]
        if not there:
            msg = f'There is neither .obsm["{chosen[0]}"] nor .obsm["{chosen[1]}"]. {HINT} Name others with keys=.'
            raise KeyError(msg)
        return there
    return chosen


def _find_types(found: Mapping[str, Abundances], types: str | Sequence[str] | None) -> list[str]:
    """Return the types that were named, which all keys must have, else the most abundant ones that they do have."""
    first, *others = found.values()
    if types is None:
        means = first.values[first.known].mean(axis=0) if first.known.any() else np.zeros(len(first.types))
        order = [first.types[number] for number in np.argsort(-means, kind="stable")]
        shared = [name for name in order if all(name in other.types for other in others)]
        if shared:
            return shared[:N_TYPES]
        msg = f"The keys {list(found)} have no type in common: draw them one by one."
        raise ValueError(msg)
    chosen = as_names(types, "types", "the types to draw, or leave it out")
    for key, one in found.items():
        for name in chosen:
            check_key(name, one.types, f"a type of .obsm[{key!r}]", argument="types")
    return chosen


def _spot_um(centers: Float64s) -> float | None:
    """Return the diameter of spots, by how far they are apart; `None` where places are as near as cells, or one."""
    if not np.ptp(centers, axis=0).any():
        return None
    apart = median_spacing(centers, np.zeros(len(centers), dtype=np.int64))
    return SPOT_SHARE * apart if apart > SPOTS_UM else None


def _scale(maps: Sequence[Floats], colormap: Colormap) -> ScalarMappable:
    """Return the colours of all maps of a type."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    known = [values[~np.isnan(values)] for values in maps if not np.isnan(values).all()]
    usual = max((float(np.quantile(values, TOP_QUANTILE)) for values in known), default=0)
    top = usual or max((float(values.max()) for values in known), default=0)  # of a rare type most places have none
    return ScalarMappable(Normalize(0, top or 1), colormap)


def _draw_rims(ax: Axes, view: View) -> None:
    """Draw white rims, without which dark spots are lost on dark tissue."""
    white = np.ones((len(view.cells), 4))
    draw_cells(ax, replace(view, size_um=RIM * view.size_um), white, layers=np.zeros(len(white)))
