"""Legends of many entries, beside their panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 15
"""Entries below one another; further ones go into further columns."""
HANDLE_IN, LETTER_IN = 0.3, 0.06
"""Room for the mark of an entry and for a letter of its name, in inches."""
NARROWEST_IN = 1.3
"""Of a column."""


def legend_width(names: Sequence[str]) -> float:
    """Return about the room that a legend needs, in inches; long names would else be taken out of the panel."""
    return _n_columns(len(names)) * max(NARROWEST_IN, HANDLE_IN + LETTER_IN * max(map(len, names)))


def draw_legend(ax: Axes, handles: Sequence[Any], **style: Any) -> None:
    """Name the handles to the right of the axes; `style` as of matplotlib's legend."""
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        ncols=_n_columns(len(handles)),
        frameon=False,
        fontsize="small",
        **style,
    )


def _n_columns(n_entries: int) -> int:
    return -(-n_entries // ROWS)
