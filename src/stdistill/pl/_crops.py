"""A contact sheet of crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stdistill import _keys
from stdistill._validate import check_integer, check_key, get_table
from stdistill.get import he_crops, he_pixels
from stdistill.pl._axes import AxesOrList, finish, make_axes, make_titles

if TYPE_CHECKING:
    import pandas as pd
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
    crop_px: int | None = None,
    mpp: float | None = None,
    seed: int = 0,
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    image_key: str | Mapping[str, str] = _keys.HE_IMAGE,
    table_key: str = _keys.TABLE,
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
        Names of the cells to draw; by default `n_crops` at random, of each niche.
    n_crops
        Crops in a row.
    crop_px, mpp
        Side of the crops in pixels and their µm per pixel; by default those of the last run of
        :func:`stdistill.pp.embed_he`.
    seed
        Of the choice of cells.
    title
        Title.
    ax
        Axes to draw in, instead of a new figure.
    save
        File to save the figure to.
    show
        Whether to show the figure. By default it is shown unless `ax` or `save` is given.
    image_key
        Name of the H&E, or a mapping of each region that the table annotates to its image.
    table_key
        Name of the table.

    Returns
    -------
    `None` when the figure was shown; else the axes.

    Raises
    ------
    KeyError
        When the table, the image, the column or a cell is not there.
    TypeError
        When the column is not categorical.
    ValueError
        When no cell to draw lies on the image.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=400))
    >>> ax = sd.pl.crops(sdata, niche_key="cell_type", n_crops=4, save="crops.png")
    """
    check_integer(n_crops, "n_crops", minimum=1)
    table = get_table(data, table_key)
    on_image = he_pixels(data, image_key=image_key, table_key=table_key)["on_image"].to_numpy()
    obs = table.obs[on_image] if cells is None else table.obs.loc[list(cells)]
    labels = _labels(obs, niche_key)
    rng = np.random.default_rng(seed)
    rows: dict[str, list[str]] = {}
    for label in [None] if labels is None else labels.cat.categories:
        names = obs.index if labels is None else obs.index[labels == label]
        chosen = rng.choice(len(names), min(n_crops, len(names)), replace=False) if cells is None else range(len(names))
        rows["" if label is None else str(label)] = [str(names[number]) for number in chosen]
    rows = {label: names for label, names in rows.items() if names}
    if not rows:
        msg = "There is no cell to draw: none lies on the image, or none has a niche."
        raise ValueError(msg)
    width = max(map(len, rows.values()))
    every = [name for names in rows.values() for name in names]
    pictures = iter(he_crops(data, cells=every, crop_px=crop_px, mpp=mpp, image_key=image_key, table_key=table_key))
    side = 0
    sheet: list[np.ndarray] = []
    for names in rows.values():
        row = [next(pictures) for _ in names]
        side = len(row[0])
        blank = np.full_like(row[0], 255)
        sheet.append(np.stack(row + [blank] * (width - len(row))))
    pad = ((0, 0), (0, 0), (0, GAP_PX), (0, GAP_PX), (0, 0))
    tiles = np.pad(np.stack(sheet), pad, constant_values=255)
    picture = tiles.transpose(0, 2, 1, 3, 4).reshape(len(rows) * (side + GAP_PX), width * (side + GAP_PX), 3)
    (axes,) = make_axes(1, ax=ax, panel_size=(PANEL_IN * width + 1, PANEL_IN * len(rows) + 0.3))
    axes.imshow(picture, interpolation="antialiased")
    for number, names in enumerate(rows.values()):
        x = np.arange(len(names)) * (side + GAP_PX) + side / 2 - 0.5
        y = np.full(len(names), number * (side + GAP_PX) + side / 2 - 0.5)
        axes.plot(x, y, "+", color="white", markersize=7, markeredgewidth=2.5)
        axes.plot(x, y, "+", color="black", markersize=6, markeredgewidth=1)
    axes.set_yticks(np.arange(len(rows)) * (side + GAP_PX) + side / 2, list(rows))
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(make_titles(title, ["" if labels is None else str(labels.name)])[0])
    return finish([axes], ax=ax, save=save, show=show)


def _labels(obs: pd.DataFrame, niche_key: str | None) -> pd.Series | None:
    """Return the categorical column that is meant, if any."""
    import pandas as pd

    if niche_key is None:
        found = [key for key in (f"{_keys.STUDENT}_niche", f"{_keys.TEACHER}_niche") if key in obs]
        if not found:
            return None
        niche_key = found[0]
    check_key(niche_key, obs.columns, "a column of .obs", argument="niche_key")
    labels = obs[niche_key]
    if not isinstance(labels.dtype, pd.CategoricalDtype):
        msg = f".obs[{niche_key!r}] holds {labels.dtype}; expected a categorical column."
        raise TypeError(msg)
    return labels
