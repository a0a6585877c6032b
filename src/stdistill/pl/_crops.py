"""A contact sheet of crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._measures.labels import Labels
from stdistill._support.checks import check_integer
from stdistill._table import schema
from stdistill._table.checks import find_rows, get_table, is_spatialdata
from stdistill._table.labels import NICHE_SUFFIX, read_labels
from stdistill.get import he_crops, he_pixels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

PANEL_IN = 0.9
"""Side of a crop, in inches."""
GAP_PX = 4
"""Between crops."""


def crops(
    data: SpatialData,
    *,
    niche_key: str | None = None,
    cells: Sequence[str] | None = None,
    n_crops: int = 8,
    use_rep: str = schema.HE_FEATURES,
    crop_px: int | None = None,
    mpp: float | None = None,
    seed: int = 0,
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    image_key: str | Mapping[str, str] = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    table_key: str = schema.TABLE,
) -> AxesOrList | None:
    """Draw crops of the H&E as the encoder sees them, one row per niche, each with its cell at the cross.

    Parameters
    ----------
    data
        SpatialData with an H&E.
    niche_key
        Categorical column of ``.obs``: a row of crops for each of its categories. By default ``student_niche`` or
        ``teacher_niche``, where there is one, else a single row of any cells.
    cells
        Names of the cells to draw, which leaves out those without a niche; by default `n_crops` at random, of each
        niche.
    n_crops
        Crops in a row, where the cells are chosen at random.
    use_rep, crop_px, mpp
        As of :func:`stdistill.get.he_crops`: whose crops they are, else their side in pixels and their µm per pixel.
    seed
        Of the choice of cells.
    image_key
        Name of the H&E, or a mapping of each region that the table annotates to its image.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    title, ax, save, show, table_key
        As of :func:`stdistill.pl.niches`; the title is the column.

    Returns
    -------
    `None` when the figure was shown; else the axes.

    Raises
    ------
    KeyError
        When the table, the image, the column, a cell or `use_rep` is not there.
    TypeError
        When the column is not categorical, or `data` is an AnnData.
    ValueError
        When the column is missing for every cell, no cell to draw lies on the image, or one of `cells` does not.

    Notes
    -----
    Our choice.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=400))
    >>> ax = sd.pl.crops(sdata, niche_key="cell_type", n_crops=4, save="crops.png")
    """
    check_integer(n_crops, "n_crops", minimum=1)
    table = get_table(data, table_key)
    if not is_spatialdata(data):
        msg = "Crops are cut from the H&E of a SpatialData; an AnnData holds none."
        raise TypeError(msg)
    key = _default_key(table) if niche_key is None else niche_key
    labels = None if key is None else read_labels(table, key, "niche_key")
    (text,) = make_titles(title, [key or ""])
    if cells is None:
        pixels = he_pixels(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
        on_image = pixels["on_image"].to_numpy()
        cells = _choose(table, on_image, labels, n_crops, seed)
    pictures = he_crops(
        data,
        cells=cells,
        use_rep=use_rep,
        crop_px=crop_px,
        mpp=mpp,
        image_key=image_key,
        coordinate_system=coordinate_system,
        table_key=table_key,
    )
    rows = _arrange(find_rows(table, cells), labels)
    if not rows:
        msg = "There is no cell to draw: none lies on the image, or none has a niche."
        raise ValueError(msg)

    places = np.array([(row, column) for row, group in enumerate(rows.values()) for column in range(len(group))])
    n_rows, n_columns = places.max(axis=0) + 1
    side = pictures.shape[1]
    step = side + GAP_PX
    sheet = np.full((n_rows * step, n_columns * step, 3), 255, dtype=np.uint8)
    for (y, x), picture in zip(places * step, pictures[np.concatenate([*rows.values()])], strict=True):
        sheet[y : y + side, x : x + side] = picture

    axes = make_axes(1, ax=ax, panel_size=(PANEL_IN * n_columns + 1, PANEL_IN * n_rows + 0.3))
    axes[0].imshow(sheet, interpolation="antialiased")
    y, x = places.T * step + (side - 1) / 2
    axes[0].plot(x, y, "+", color="white", markersize=7, markeredgewidth=2.5)  # a rim, seen on dark nuclei
    axes[0].plot(x, y, "+", color="black", markersize=6, markeredgewidth=1)
    axes[0].set_yticks(np.arange(n_rows) * step + (side - 1) / 2, list(rows))
    axes[0].set_xticks([])
    axes[0].tick_params(length=0)
    axes[0].spines[:].set_visible(False)
    axes[0].set_title(text)
    return finish(axes, ax=ax, save=save, show=show)


def _default_key(table: AnnData) -> str | None:
    keys = (f"{schema.STUDENT}{NICHE_SUFFIX}", f"{schema.TEACHER}{NICHE_SUFFIX}")
    return next((key for key in keys if key in table.obs), None)


def _choose(
    table: AnnData, on_image: npt.NDArray[np.bool_], labels: Labels | None, n_crops: int, seed: int
) -> list[str]:
    """Return the names of some cells at random, of each niche as many."""
    rng = np.random.default_rng(seed)
    masks = [on_image] if labels is None else [on_image & (labels.codes == code) for code in range(len(labels.names))]
    groups = [np.flatnonzero(mask) for mask in masks]
    chosen = [rng.choice(group, min(n_crops, len(group)), replace=False) for group in groups]
    names: list[str] = table.obs_names[np.concatenate(chosen)].tolist()
    return names


def _arrange(cells: npt.NDArray[np.intp], labels: Labels | None) -> dict[str, npt.NDArray[np.intp]]:
    """Return the places in `cells`, rows of the table, of those of each niche that has any."""
    codes, names = (np.zeros_like(cells), [""]) if labels is None else (labels.codes[cells], labels.names)
    groups = {name: np.flatnonzero(codes == code) for code, name in enumerate(names)}
    return {name: group for name, group in groups.items() if len(group)}
