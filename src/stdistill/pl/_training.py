"""What a model logged while it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import Palette, palette_colors
from stdistill._drawing.matrix import check_frame
from stdistill._table import schema

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stdistill.models import AlignmentModel, CompositionModel, NicheModel

PANELS = {
    "loss": ("training_loss", "validation_loss"),
    "entropy": ("target_entropy", "size_entropy"),
    "occupied niches": ("occupied_niches",),
    "largest niche": ("largest_niche",),
    "effective rank": ("effective_rank",),
    "alignment": tuple(f"alignment_{scale}" for scale in schema.SCALES),
    "uniformity of the H&E": tuple(f"uniformity_he_{scale}" for scale in schema.SCALES),
    "uniformity of expression": tuple(f"uniformity_expression_{scale}" for scale in schema.SCALES),
}
"""Measures that share a panel; each of the others gets its own."""
RUNS = ("member", "all_rows")
"""Columns that tell the trainings of a composition model apart; each is a line."""
NCOLS = 3


def training(
    model: NicheModel | CompositionModel | AlignmentModel | pd.DataFrame,
    *,
    palette: Palette | None = None,
    title: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> AxesOrList | None:
    """Draw loss, entropies, occupied niches and whatever else was logged in each epoch.

    Parameters
    ----------
    model
        A model, or its ``history``: one row per epoch.
    palette
        Colours of the lines of a panel, in their order, or of all measures by name.
    title, ax, save, show
        As of :func:`stdistill.pl.niches`; a panel's title is its measure.

    Returns
    -------
    `None` when the figure was shown; else the axes, or a list of them when there are several panels.

    Raises
    ------
    KeyError
        When the palette lacks a measure.
    TypeError
        When `model` is neither a model nor a frame.
    ValueError
        When the history is empty, or there are fewer axes, titles or colours than needed.

    Notes
    -----
    Collapse shows as few occupied niches, one of which is large; a `target_entropy` that stays at 1 as niches that
    nothing tells apart.

    Examples
    --------
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> history = pd.DataFrame({"training_loss": [2.0, 1.2, 0.9], "occupied_niches": [3.0, 8.0, 10.0]})
    >>> axes = sd.pl.training(history, save="training.png")
    >>> [ax.get_title() for ax in axes]
    ['loss', 'occupied niches']
    """
    from matplotlib.ticker import MaxNLocator

    history: Any = model if isinstance(model, pd.DataFrame) else getattr(model, "history", model)
    check_frame(history, (), "model.history")
    panels = {name: [column for column in columns if column in history] for name, columns in PANELS.items()}
    grouped = {column for columns in PANELS.values() for column in columns}
    panels |= {str(column): [column] for column in history.columns if column not in grouped | {*RUNS}}
    panels = {name: columns for name, columns in panels.items() if columns}
    titles = make_titles(title, list(panels))
    colors = [palette_colors(palette, columns) for columns in panels.values()]
    of_runs = [column for column in RUNS if column in history]
    runs = list(history.groupby(of_runs)) if of_runs else [((), history)]
    axes = make_axes(len(panels), ax=ax, panel_size=(3.4, 2.6), ncols=NCOLS)
    for panel, columns, lines, text in zip(axes, panels.values(), colors, titles, strict=True):
        for column, color in zip(columns, lines, strict=True):
            for number, (_, run) in enumerate(runs):
                shown = run[column].dropna()
                label = None if number else column
                panel.plot(shown.index, shown, color=color, label=label, marker="." if len(shown) < 30 else None)
        panel.set(title=text, xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.spines[["top", "right"]].set_visible(False)
        if len(columns) > 1:
            panel.legend(frameon=False, fontsize="small")
    return finish(axes, ax=ax, save=save, show=show)
